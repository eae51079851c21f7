"""The operations that a network makes of a batch, as PyTorch's dispatcher sees them.

They are the same for an eager module, a script and an exported program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One operation: its name without "aten::", its arguments, and what it returned.

    ``result`` is None where the operation failed.
    """

    name: str
    arguments: Sequence[Any]
    result: object

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The arguments that are tensors."""
        return tuple(argument for argument in self.arguments if isinstance(argument, Tensor))

    @property
    def feature_map(self) -> Shape | None:
        """The shape of what was returned first, where that has the four axes of a feature map."""
        first = self.result[0] if isinstance(self.result, tuple) else self.result
        return tuple(first.shape) if isinstance(first, Tensor) and first.ndim == 4 else None


def watch(network: nn.Module, batch: Tensor, note: Callable[[Operation], None]) -> None:
    """Run a network and tell ``note`` of each operation, also of one that fails; none is raised.

    ``note`` may raise to end the run early.
    """
    try:
        with torch.no_grad(), _Noted(note):
            network(batch)
    except Exception:  # any failure of the user's code: what was seen before it is what counts
        return


class _Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of each operation after it was made."""

    def __init__(self, note: Callable[[Operation], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func._schema.name.removeprefix("aten::")
        try:
            result = func(*args, **(kwargs or {}))
        except Exception:
            self._note(Operation(name, args, None))
            raise
        self._note(Operation(name, args, result))
        return result
