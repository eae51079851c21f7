"""What a network does with pictures, found by sending a few of them through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from reportgen.classifier.black_box import BlackBox
from reportgen.classifier.folding import Forward, folded, reduced
from reportgen.classifier.heads import last_operation
from reportgen.classifier.inputs import input_dtype
from reportgen.classifier.kept_tensors import nothing_kept
from reportgen.classifier.normalisation import normalisation_of
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import ALONE, NO_WISH, Reader, Scoring, Wish, find_reader
from reportgen.errors import ModelError
from reportgen.records import Preprocessing

_PROBES = 8
_LARGE_PROBES = 2
_PIXELS_AT_ONCE = 1 << 21
_ROUNDING = 1e-3
_COARSE = 5e-2  # in half precision, where batches of two sizes are rounded differently


@dataclass(frozen=True)
class Probe:
    """Pictures that differ much from one another, and what the network says of them.

    ``batch`` (n, C, H, W) is normalised; ``raw`` (n, outputs) is float32, and ``read`` finds it in
    what the network returns. ``last`` is the last operation on it, as in
    ``last_operation``.
    """

    batch: Tensor
    raw: Tensor
    read: Reader = ALONE
    last: str = ""


def probe(
    opened: Opened, preprocessing: Preprocessing, device: torch.device, wish: Wish = NO_WISH
) -> Probe:
    """Return what the network says of some pictures; ``wish`` is about its class scores.

    Raises ModelError where they are not finite or cannot be found, UsageError for a ``wish`` that
    the network does not fulfil.
    """
    made_of = replace(normalisation_of(preprocessing), dtype=input_dtype(opened.network))
    batch = made_of(probe_pictures(preprocessing)).to(device)
    example = _example(batch, opened.fixed_batch)
    output = _output(opened.network, example)
    read = find_reader(output, len(example), opened.network, wish)
    raw = _raw(opened.network, batch, opened.fixed_batch, read)
    check_finite(raw)
    if not _alike(read(output, len(example))[:1], raw[:1]):
        # The brightest picture is the most unlike the first.
        others = torch.cat([example[:1], batch[-1:].expand_as(example[1:])])
        _check_repeatable(opened.network, example, others, read)
    return Probe(batch, raw, read, last_operation(read.entry(output)))


def _output(network: nn.Module, batch: Tensor) -> object:
    """Return what the network says of a batch, with the operations behind it where it has them."""
    try:
        with nothing_kept():
            # Not a leaf, so that a network may change its input in place.
            return network(batch.clone().requires_grad_() * 1)
    except Exception:  # a network that cannot be differentiated can still be asked
        with torch.no_grad():
            return network(batch)


def accepts_channels_last(opened: Opened, known: Probe) -> bool:
    """Return whether the network gives the same outputs for batches stored channels last.

    Convolutions are faster in that order, but a network that calls ``view`` on its activations
    fails with it.
    """
    if opened.fixed_batch is not None or isinstance(opened.network, BlackBox):
        return False
    last = known.batch.contiguous(memory_format=torch.channels_last)
    return _same(opened.network, last, known, None)


def folded_copy(opened: Opened, known: Probe, layout: torch.memory_format) -> Forward | None:
    """Return a folded copy of the network that gives the same outputs, None where there is none.

    The same are outputs whose largest difference is at most a thousandth of the largest output.
    """
    batch = known.batch.contiguous(memory_format=layout)
    copy = folded(_scoring(opened, known), _example(batch, opened.fixed_batch))
    return copy if copy and _same(copy, batch, known, opened.fixed_batch) else None


def reduced_copy(opened: Opened, known: Probe, layout: torch.memory_format) -> Forward:
    """Return a copy of the network that computes in bfloat16; NotApplicable where none does."""
    batch = known.batch.contiguous(memory_format=layout)
    return reduced(_scoring(opened, known), _example(batch, opened.fixed_batch), torch.bfloat16)


def _scoring(opened: Opened, known: Probe) -> nn.Module:
    """Return the network, without those of its outputs that no recording could return."""
    network = opened.network
    alone = not known.read.steps or isinstance(network, torch.jit.ScriptModule)
    return network if alone else Scoring(network, known.read)


def _example(batch: Tensor, fixed_batch: int | None) -> Tensor:
    """Return the smallest batch of different pictures that the network accepts; one large one."""
    size = fixed_batch or min(2, _at_once(batch.shape))
    return batch.repeat(-(-size // len(batch)), 1, 1, 1)[:size]


def _same(run: Forward, batch: Tensor, known: Probe, fixed_batch: int | None) -> bool:
    expected = known.raw
    try:
        found = _raw(run, batch, fixed_batch, known.read)
    except Exception:  # any failure of the user's code means that this way does not fit
        return False
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())


def _raw(run: Forward, batch: Tensor, fixed_batch: int | None, read: Reader) -> Tensor:
    with torch.inference_mode():
        if fixed_batch is None:
            parts = torch.split(batch, _at_once(batch.shape))
            return torch.cat([read(run(part), len(part)).float() for part in parts])
        rows = [row.expand(fixed_batch, *row.shape) for row in batch]
        return torch.cat([read(run(row), fixed_batch)[:1] for row in rows]).float()


def _at_once(shape: Sequence[int]) -> int:
    """Return how many pictures of this size are probed in one batch, before memory is measured."""
    return max(1, _PIXELS_AT_ONCE // (shape[-1] * shape[-2]))


def probe_pictures(preprocessing: Preprocessing) -> Tensor:
    """Return noisy pictures (n, C, H, W) in [0, 1], from dark to bright: eight, or two large ones.

    Large are those of which only one is sent through the network at a time.
    """
    shape = (preprocessing.channels, *preprocessing.crop)
    count = _PROBES if _at_once(shape) > 1 else _LARGE_PROBES
    generator = torch.Generator().manual_seed(0)
    levels = torch.linspace(0, 1, count).view(-1, 1, 1, 1)
    noise = torch.rand(count, *shape, generator=generator) - 0.5
    return (levels + noise * 0.5).clamp(0, 1)


def _alike(once: Tensor, again: Tensor) -> bool:
    """Return whether the same picture got the same outputs, but for rounding, in another pass."""
    tolerance = _ROUNDING if once.dtype == torch.float32 else _COARSE
    apart = (once.detach().float() - again.detach().float()).abs().max()
    return bool(apart <= tolerance * again.abs().max())


def _check_repeatable(network: nn.Module, batch: Tensor, others: Tensor, read: Reader) -> None:
    """Raise ModelError where a batch's first picture gets other outputs again, or in ``others``.

    Batches of one size are rounded alike, unlike those of two sizes, whose rounding a deep network
    may amplify to more than any fixed share of its outputs.
    """
    with torch.inference_mode():
        outputs = [read(network(each), len(each))[:1] for each in (batch, batch, others)]
    if not all(_alike(each, outputs[0]) for each in outputs):
        raise ModelError(
            "The model gives other scores for the same picture in another pass, as dropout, other "
            "noise or the statistics of a batch are at work in it; call model.eval() before it is "
            "saved, and use no functional dropout without training=self.training."
        )


def check_finite(raw: Tensor) -> None:
    """Raise ModelError where raw outputs hold NaN or infinite values."""
    if not bool(raw.isfinite().all()):
        raise ModelError(
            "The model gives NaN or infinite outputs; check its weights and its normalisation."
        )
