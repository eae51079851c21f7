"""The one door to the network: every forward and backward pass goes through here and is counted.

Pixels in [0, 1] come in; normalisation, batch size, running out of memory and the head are dealt
with inside. Sums are kept in float32 or wider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from reportgen.classifier.heads import Head, class_outputs
from reportgen.errors import ModelError, NotApplicable

T = TypeVar("T")
Build = Callable[[int, int], Tensor]


class FeatureTap(Protocol):
    """Runs the network on a normalised batch and also returns one of its inner activations."""

    def __call__(self, batch: Tensor) -> tuple[object, Tensor]:
        """Return (the network's output, the activation as (n, channels, height, width))."""
        ...


@dataclass
class Counter:
    """Images that went through the network so far."""

    forward: int = 0
    backward: int = 0


class Evaluator:
    """Runs batches of pixels (n, C, H, W) in [0, 1] through a network on ``device``.

    ``fixed_batch`` is the only batch size the network accepts, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        head: Head,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        batch_size: int,
        fixed_batch: int | None = None,
    ) -> None:
        self.network = network
        self.head = head
        self.device = device
        self.batch_size = batch_size
        self.counter = Counter()
        self._fixed_batch = fixed_batch
        self._dtype = _dtype(network)
        self._mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(std, device=device).view(-1, 1, 1)

    @property
    def precision(self) -> str:
        """The number format that the network computes in."""
        return str(self._dtype or torch.float32).removeprefix("torch.")

    def raw(self, pixels: Tensor) -> Tensor:
        """Return the network's outputs (n, outputs) for pixels (n, C, H, W); differentiable."""
        self.counter.forward += len(pixels)
        output = class_outputs(self._run(self.normalised(pixels)), len(pixels))
        return self._counted(_widened(output))

    def scores(self, pixels: Tensor) -> Tensor:
        """Return class scores (n, classes) for pixels (n, C, H, W); differentiable."""
        return self.head.scores(self.raw(pixels))

    def scores_and_features(self, pixels: Tensor, tap: FeatureTap) -> tuple[Tensor, Tensor]:
        """Return scores (n, classes) and the activation that ``tap`` reads; differentiable."""
        if self._fixed_batch not in (None, len(pixels)):
            pairs = [self.scores_and_features(row[None], tap) for row in pixels]
            return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
        self.counter.forward += len(pixels)
        output, features = tap(self.normalised(pixels))
        raw = self._counted(_widened(class_outputs(output, len(pixels))))
        return self.head.scores(raw), features

    def stream(self, count: int, build: Build) -> Tensor:
        """Return raw outputs (count, outputs); ``build(start, stop)`` makes those rows of pixels.

        The rows are made and run in batches; when memory runs out the batch is halved and the same
        rows are made again. Raises NotApplicable where an output is NaN or infinite.
        """
        parts: list[Tensor] = []
        done = 0
        with torch.inference_mode():
            while done < count:
                stop = min(done + self.batch_size, count)
                try:
                    parts.append(self.raw(build(done, stop)))
                    done = stop
                except (RuntimeError, MemoryError) as error:
                    self._halve(error)
        return _finite(torch.cat(parts))

    def probabilities(self, count: int, build: Build) -> Tensor:
        """Return probabilities (count, classes) of the rows that ``build(start, stop)`` makes."""
        return self.head.probabilities(self.stream(count, build))

    def within_memory(self, run: Callable[[int], T]) -> T:
        """Return ``run(batch_size)``, with a halved batch size as often as memory runs out."""
        while True:
            try:
                return run(self.batch_size)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels (n, C, H, W) in [0, 1] as the network wants them: (pixels - mean) / std."""
        batch = (pixels - self._mean) / self._std
        return batch.to(self._dtype or pixels.dtype).contiguous(memory_format=torch.channels_last)

    def _run(self, batch: Tensor) -> object:
        if self._fixed_batch in (None, len(batch)):
            return self.network(batch)
        size = self._fixed_batch or 1
        padding = -len(batch) % size
        padded = torch.cat([batch, batch[-1:].expand(padding, *batch.shape[1:])])
        chunks = [class_outputs(self.network(part), size) for part in torch.split(padded, size)]
        return torch.cat(chunks)[: len(batch)]

    def _counted(self, output: Tensor) -> Tensor:
        if output.requires_grad:
            output.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return output

    def _count_backward(self, gradient: Tensor) -> None:
        self.counter.backward += len(gradient)

    def _halve(self, error: Exception) -> None:
        if not _out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise ModelError(
                "One picture at a time already needs more memory than there is; "
                "use a smaller --size, or another --device."
            ) from error
        self.batch_size = (self.batch_size + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _dtype(network: nn.Module) -> torch.dtype | None:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, None)


def _widened(output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def _finite(output: Tensor) -> Tensor:
    if not bool(output.isfinite().all()):
        raise NotApplicable("the model gives NaN or infinite outputs on a changed picture")
    return output


def _out_of_memory(error: Exception) -> bool:
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in words
        or "can't allocate memory" in words
    )


@contextmanager
def borrowed(network: nn.Module) -> Iterator[None]:
    """Use a network in eval mode with frozen parameters, and leave it as it was found.

    Modes and requires-grad flags are put back on every exit; gradients are never written, because
    frozen parameters collect none.
    """
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        if any(training for _, training in modes):
            network.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        _put_back(modes, flags)


def _put_back(modes: list[tuple[Any, bool]], flags: list[tuple[Any, bool]]) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    for module, training in modes:
        module.training = training
