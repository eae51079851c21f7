"""What a pass keeps in memory for its gradients: nothing where none are asked for, or too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from reportgen.classifier.memory import available_memory

# Beside what is kept, a pass needs room for what it computes.
_SHARE = 0.75


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Run passes whose operations are recorded, but not the tensors that gradients would need."""
    with saved_tensors_hooks(lambda tensor: None, _nothing):
        yield


@contextmanager
def room_to_keep(
    device: torch.device,
    available: Callable[[torch.device], int | None] = available_memory,
) -> Iterator[None]:
    """Raise MemoryError as soon as a pass keeps more for gradients than three quarters of what is
    ``available``.

    A system that promises more memory than there is would end the process later, without a word.
    """
    free = available(device) if device.type == "cpu" else None
    if free is None:
        yield
        return
    with saved_tensors_hooks(_Kept(_SHARE * free).keep, lambda tensor: tensor):
        yield


class _Kept:
    """Counts the bytes that are kept, those of one storage once."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: set[int] = set()
        self._total = 0

    def keep(self, tensor: Tensor) -> Tensor:
        storage, owner = tensor.untyped_storage(), tensor if tensor._base is None else tensor._base
        if storage.data_ptr() not in self._seen and not owner.is_leaf:  # weights are there already
            self._seen.add(storage.data_ptr())
            self._total += storage.nbytes()
        if self._total > self._limit:
            raise MemoryError("a pass with gradients keeps more than there is memory for")
        return tensor.detach()  # an output that is kept by its own operation would keep it too


def _nothing(_: None) -> Tensor:
    raise RuntimeError("no gradient can be asked for, as nothing was kept for it")
