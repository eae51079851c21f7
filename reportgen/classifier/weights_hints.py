"""What is known about a network made from weights: from its file first, else from who published it.

What the file says is used as far as it suits the network; the rest is left out, and noted.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from reportgen.classifier.construction import Constructed
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.published import timm_hints, torchvision_hints
from reportgen.classifier.timm_models import imagenet_hints

Noted = tuple[Hints, tuple[str, ...]]


def weights_hints(made: Constructed, own: Hints, channels: int | None, sha256: str) -> Noted:
    """Return the hints for a network from the file of that ``sha256``, and notes on them.

    ``own`` are those of the file, ``channels`` how many the network takes where that is known.
    """
    published = _published(made, sha256)
    own, label_notes = _suiting_labels(own, made)
    own, colour_notes = _suiting_colours(own, channels)
    return combine(_with_resize(own, published), published), (*label_notes, *colour_notes)


def _published(made: Constructed, sha256: str) -> Hints:
    if made.architecture.startswith("timm:"):
        return combine(timm_hints(made.network), imagenet_hints(made.network, "assumed"))
    return torchvision_hints(made.recognised, sha256)


def _suiting_labels(own: Hints, made: Constructed) -> Noted:
    if own.labels is None or _has_outputs(made, len(own.labels.value)):
        return own, ()
    count = len(own.labels.value)
    return replace(own, labels=None), (
        f"The file lists {count} labels, but the network has no layer with {count} outputs; they "
        "were not used.",
    )


def _has_outputs(made: Constructed, count: int) -> bool:
    layers = (m for m in made.network.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    known = {made.classes}
    outputs = {layer.weight.shape[0] for layer in layers} if made.classes is None else known
    # Two labels also suit a single output, which tells one from the other.
    return count in outputs or (count == 2 and 1 in outputs)


def _suiting_colours(own: Hints, channels: int | None) -> Noted:
    """Return the hints with one mean and deviation a channel, a single one spread over all."""
    if own.mean is None or own.std is None or channels in (None, len(own.mean.value)):
        return own, ()
    if len(own.mean.value) == 1:
        mean, std = own.mean.value * channels, own.std.value * channels
        return replace(own, mean=Known(mean, "file"), std=Known(std, "file")), ()
    return replace(own, mean=None, std=None), (
        f"The file states mean and standard deviation of {len(own.mean.value)} channels, but the "
        f"network takes {channels}; they were not used.",
    )


def _with_resize(own: Hints, published: Hints) -> Hints:
    """Let the short side be that of the crop where only the file's crop is known.

    The published resize belongs to the published crop.
    """
    if own.crop is None or own.resize is not None:
        return own
    if published.crop is not None and published.crop.value == own.crop.value:
        return own
    return replace(own, resize=Known(min(own.crop.value), "assumed"))
