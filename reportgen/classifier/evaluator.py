"""The one door to the network: every forward and backward pass goes through here and is counted.

Pixels in [0, 1] come in; normalisation, batch size, running out of memory and the head are dealt
with inside. Sums are kept in float32 or wider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from reportgen.classifier.black_box import without_gradients
from reportgen.classifier.folding import Forward
from reportgen.classifier.heads import Head
from reportgen.classifier.lone_pictures import LonePictures
from reportgen.classifier.memory import out_of_memory
from reportgen.classifier.normalisation import Normalisation
from reportgen.classifier.severed import whole
from reportgen.errors import ModelError, NotApplicable

T = TypeVar("T")
Build = Callable[[int, int], Tensor]
# Runs the network on a normalised batch: its output, and several activations, pictures first.
FeatureReader = Callable[[Tensor], tuple[object, list[Tensor]]]


class FeatureTap(Protocol):
    """Runs the network on a normalised batch and also returns one of its inner activations."""

    def __call__(self, batch: Tensor) -> tuple[object, Tensor]:
        """Return (the network's output, the activation in its own layout, pictures first)."""
        ...


@dataclass(frozen=True)
class Resumed:
    """A network from one of its activations on: ``tail`` maps the activation to the output.

    ``passes`` pictures were sent through the network to get there.
    """

    tail: Callable[[Tensor], object]
    passes: int


# Takes a batch that repeats one picture, and an example of the activations that will follow.
Resume = Callable[[Tensor, Tensor], Resumed]


@dataclass
class Counter:
    """Pictures that the network has run on, without those that only fill up a fixed batch."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class Batches:
    """How pictures are put together: ``size`` at most, halved when memory runs out.

    ``fixed`` is the only batch size that the network accepts, or None. ``channels_last`` is the
    order in memory in which convolutions are faster, for networks that accept it.
    """

    size: int
    fixed: int | None = None
    channels_last: bool = False

    @property
    def layout(self) -> torch.memory_format:
        """The order in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Copies:
    """Copies of the network for passes without gradients, each None where there is none.

    ``folded`` gives the same outputs in less time. ``reduced`` computes in the coarser number
    format called ``precision``; ``dtype`` is that of its input, None for the network's own.
    """

    folded: Forward | None = None
    reduced: Forward | None = None
    precision: str = ""
    dtype: torch.dtype | None = None


class Evaluator:
    """Runs batches of pixels (n, C, H, W) in [0, 1] through a network on ``device``.

    Passes without gradients run through a copy of the network where there is one: the folded one,
    or, while ``reducing``, the one of reduced precision. A ``refusal`` says why no pass with a
    gradient is made, "" where one can be.
    """

    def __init__(
        self,
        network: nn.Module,
        head: Head,
        normalisation: Normalisation,
        device: torch.device,
        batches: Batches,
        copies: Copies = Copies(),
    ) -> None:
        self.network = network
        self.copies = copies
        self.reducing = False
        self.refusal = ""
        self.head = head
        self.device = device
        self.batch_size = batches.size
        self.counter = Counter()
        self._altered = False
        self._is_whole = False
        self._fixed_batch = batches.fixed
        self._layout = batches.layout
        self._dtype = _dtype(network)
        self.normalisation = replace(normalisation, dtype=self._dtype)

    @property
    def precision(self) -> str:
        """The number format that passes compute in."""
        own = str(self._dtype or torch.float32).removeprefix("torch.")
        return f"{self.copies.precision}; with gradients {own}" if self.reducing else own

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the network accepts, None where it takes any."""
        return self._fixed_batch

    def raw(self, pixels: Tensor) -> Tensor:
        """Return the network's outputs (n, outputs) for pixels (n, C, H, W); differentiable.

        Raises NotApplicable where a gradient is wanted that would leave out a part of the network.
        """
        with self._recording(alone=True) if pixels.requires_grad else nullcontext():
            return self._counted(self._outputs(self.network, self.normalised(pixels)))

    def scores(self, pixels: Tensor) -> Tensor:
        """Return class scores (n, classes) for pixels (n, C, H, W); differentiable."""
        return self.head.scores(self.raw(pixels))

    def feature_gradients(
        self, pixels: Tensor, tap: FeatureTap, target: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the activation that ``tap`` reads, and the gradient of the target's score by it.

        Both have the activation's own layout, pictures first; the gradient is None where the score
        does not depend on the activation.
        """
        batch = self.normalised(pixels)
        pairs = [self._feature_gradient(part, tap, target) for part in self._chunks(batch, True)]
        self.counter.forward += len(pixels)
        activation = torch.cat([activation for activation, _ in pairs])[: len(pixels)]
        gradients = [gradient for _, gradient in pairs if gradient is not None]
        if len(gradients) < len(pairs):
            return activation, None
        self.counter.backward += len(pixels)
        return activation, torch.cat(gradients)[: len(pixels)]

    def features(self, pixels: Tensor, tap: FeatureTap) -> Tensor:
        """Return the activation that ``tap`` reads, in its own layout, pictures first."""
        batch = self.normalised(pixels)
        parts = [tap(part)[1].detach() for part in self._chunks(batch)]
        self.counter.forward += len(pixels)
        return torch.cat(parts)[: len(pixels)]

    def activations(self, pixels: Tensor, reader: FeatureReader) -> list[Tensor]:
        """Return the activations that ``reader`` reads, each in its own layout, pictures first."""
        parts = [reader(part)[1] for part in self._chunks(self.normalised(pixels))]
        self.counter.forward += len(pixels)
        each = zip(*parts, strict=True)
        return [torch.cat([t.detach() for t in tensors])[: len(pixels)] for tensors in each]

    def gradients(
        self, pixels: Tensor, reader: FeatureReader, targets: Sequence[int]
    ) -> tuple[list[Tensor], list[list[Tensor | None]]]:
        """Return the activations that ``reader`` reads, and each target's gradients by all of them.

        ``pixels`` (n, C, H, W) are no more than one batch. Each in its own layout, pictures first;
        a gradient is None where the score does not depend on the activation.
        """
        (batch,) = self._chunks(self.normalised(pixels))
        with self._recording():
            output, found = reader(batch)
            self.counter.forward += len(pixels)
        scores = self.head.scores(_widened(self.head.read(output, len(batch))))
        by_target = [_gradients(scores[:, target].sum(), found) for target in targets]
        self.counter.backward += len(pixels) * len(targets)
        cut = [[None if g is None else g[: len(pixels)] for g in row] for row in by_target]
        return [tensor.detach()[: len(pixels)] for tensor in found], cut

    def resumed(self, pixels: Tensor, resume: Resume, count: int, build: Build) -> Tensor:
        """Return raw outputs (count, outputs) of one picture (1, C, H, W) with other activations.

        ``build(start, stop)`` makes those rows of what takes the place of an inner activation, and
        ``resume`` runs the network from there on, which counts as a pass. When memory runs out the
        batch is halved and all rows are run again. Raises NotApplicable where an output is NaN or
        infinite.
        """

        def run(size: int) -> Tensor:
            copies = self._fixed_batch or min(size, count)
            batch = self.normalised(pixels.expand(copies, *pixels.shape[1:]))
            with torch.no_grad():
                return self._resumed(batch, resume, count, build)

        return _finite(self.within_memory(run))

    def watch(self, pixels: Tensor, run: Callable[[Tensor], T]) -> T:
        """Return what ``run`` says of the normalised pixels, filled up to the network's batch.

        ``pixels`` (n, C, H, W) are no more than one batch, which ``run`` sends through the network
        once.
        """
        (batch,) = self._chunks(self.normalised(pixels))
        result = run(batch)
        self.counter.forward += len(pixels)
        return result

    def watch_all(self, pixels: Tensor, run: Callable[[tuple[Tensor, ...]], T]) -> T:
        """Return what ``run`` says of normalised pixels (n, C, H, W), in batches of the network's.

        Without a fixed size they are one batch. ``run`` sends each through the network once.
        """
        result = run(self._chunks(self.normalised(pixels)))
        self.counter.forward += len(pixels)
        return result

    def stream(self, count: int, build: Build) -> Tensor:
        """Return raw outputs (count, outputs); ``build(start, stop)`` makes those rows of pixels.

        The rows are made and run in batches; when memory runs out the batch is halved and the same
        rows are made again. Raises NotApplicable where an output is NaN or infinite.
        """
        parts: list[Tensor] = []
        done = 0
        run, dtype = self._streamed()
        with torch.inference_mode():
            while done < count:
                stop = min(done + self.batch_size, count)
                try:
                    batch = self.normalised(build(done, stop)).to(dtype)
                    parts.append(self._outputs(run, batch))
                    done = stop
                except (RuntimeError, MemoryError) as error:
                    self._halve(error)
        return _finite(torch.cat(parts))

    @contextmanager
    def altered(self) -> Iterator[None]:
        """Run everything through the network itself while its weights are others than they were."""
        before, self._altered = self._altered, True
        try:
            yield
        finally:
            self._altered = before

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
        """Return pixels (n, C, H, W) in [0, 1] as the network wants them."""
        return self.normalisation(pixels).contiguous(memory_format=self._layout)

    def _streamed(self) -> tuple[Forward, torch.dtype | None]:
        """Return what passes without gradients run through, and the number format of its input.

        None is the format in which pixels are normalised.
        """
        if self.reducing and self.copies.reduced and not self._altered:
            return self.copies.reduced, self.copies.dtype
        if self.copies.folded and not self._altered:
            return self.copies.folded, None
        return self.network, None

    def _outputs(self, run: Forward, batch: Tensor) -> Tensor:
        chunks = self._chunks(batch, batch.requires_grad)
        parts = [self.head.read(run(part), len(part)) for part in chunks]
        self.counter.forward += len(batch)
        return _widened(torch.cat(parts)[: len(batch)])

    def _chunks(self, batch: Tensor, graded: bool = False) -> tuple[Tensor, ...]:
        """Return the batch in pieces that the network accepts, the last one filled up."""
        if self._fixed_batch is None:
            # Inside a script, gradients of one picture alone cannot be put right.
            scripted = graded and isinstance(self.network, torch.jit.ScriptModule)
            return (_filled_up(batch, 2) if scripted and len(batch) == 1 else batch,)
        padding = -len(batch) % self._fixed_batch
        return torch.split(_filled_up(batch, len(batch) + padding), self._fixed_batch)

    def _resumed(self, batch: Tensor, resume: Resume, count: int, build: Build) -> Tensor:
        size = len(batch)
        found = resume(batch, _filled_up(build(0, min(size, count)), size))
        self.counter.forward += found.passes
        parts: list[Tensor] = []
        for start in range(0, count, size):
            rows = build(start, min(start + size, count))
            output = self.head.read(found.tail(_filled_up(rows, size)), size)
            parts.append(_widened(output[: len(rows)]))
            self.counter.forward += len(rows) if self._fixed_batch else size
        return torch.cat(parts)

    def _feature_gradient(
        self, batch: Tensor, tap: FeatureTap, target: int
    ) -> tuple[Tensor, Tensor | None]:
        with self._recording():
            output, activation = tap(batch)
        scores = self.head.scores(_widened(self.head.read(output, len(batch))))
        if not scores.requires_grad:
            return activation.detach(), None
        total = scores[:, target].sum()
        return activation.detach(), torch.autograd.grad(total, activation, allow_unused=True)[0]

    @contextmanager
    def _recording(self, alone: bool = False) -> Iterator[None]:
        """Make a pass with a gradient; the first shows whether it reaches all of the network.

        Only the network ``alone`` can show it: whoever takes activations out joins what was cut.
        """
        if self.refusal:
            raise without_gradients(self.refusal)
        with LonePictures():
            if self._is_whole:
                yield
                return
            with whole():
                yield
        self._is_whole = alone

    def _counted(self, output: Tensor) -> Tensor:
        if output.requires_grad:
            output.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return output

    def _count_backward(self, gradient: Tensor) -> None:
        self.counter.backward += len(gradient)

    def _halve(self, error: Exception) -> None:
        if not out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise ModelError(
                "One picture at a time already needs more memory than there is; "
                "use a smaller --size, or another --device."
            ) from error
        self.batch_size = (self.batch_size + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _gradients(score: Tensor, activations: list[Tensor]) -> list[Tensor | None]:
    # A script returns values as they are: of one computed without a gradient, none can be asked.
    asked = [tensor for tensor in activations if tensor.requires_grad]
    if not score.requires_grad or not asked:
        return [None] * len(activations)
    found = iter(torch.autograd.grad(score, asked, retain_graph=True, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in activations]


def _dtype(network: nn.Module) -> torch.dtype | None:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, None)


def _filled_up(rows: Tensor, size: int) -> Tensor:
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


def _widened(output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def _finite(output: Tensor) -> Tensor:
    if not bool(output.isfinite().all()):
        raise NotApplicable("the model gives NaN or infinite outputs on a changed picture")
    return output
