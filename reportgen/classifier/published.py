"""What torchvision and timm publish of their classifiers: weights, preprocessing, labels."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from reportgen.classifier.architectures import IMAGENET_CLASSES, RGB, Recognised, require_known
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.renormalising import RENORMALISING
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, unknown_name
from reportgen.records import Source

_PLACE = "torchvision:"

# The interpolations that timm's pictures and those here are resized with alike.
_SHARED = ("nearest", "bilinear", "bicubic")


def is_published(source: str) -> bool:
    """Return whether ``source`` names published weights, as in ``torchvision:resnet50``."""
    return source.startswith(_PLACE)


def find_published(source: str) -> tuple[str, Any]:
    """Return name and weights for ``torchvision:NAME`` (its default ones) or ``...:NAME:WEIGHTS``.

    Raises UsageError for a name that does not exist.
    """
    name, _, version = source.removeprefix(_PLACE).partition(":")
    require_known(name)
    versions = _versions(name)
    if not version:
        return name, versions.DEFAULT
    if version not in versions.__members__:
        raise unknown_name(f"weights of {name}", version, versions.__members__)
    return name, versions[version]


def download(weights: Any, allow_download: bool) -> dict[str, torch.Tensor]:
    """Return the state dict of published ``weights``, from torch.hub's cache or downloaded.

    Raises ModelError where they are not in the cache and may not, or cannot, be downloaded.
    """
    cached = cached_file(weights)
    if not cached.exists() and not allow_download:
        raise ModelError(
            f"The published weights {weights} are not in the cache ({cached.parent}); fetch them "
            f"with --allow-download, or put {cached.name} there."
        )
    try:
        tensors: dict[str, torch.Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True, map_location="cpu"
        )
    except Exception as error:
        raise ModelError(
            f"The published weights {weights} are not in the cache ({cached.parent}) "
            f"and could not be downloaded; put {cached.name} there, or check the "
            f"network ({type(error).__name__}: {error})."
        ) from None
    return tensors


def cached_file(weights: Any) -> Path:
    """Return the path of published ``weights`` in torch.hub's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def torchvision_hints(recognised: Recognised | None, sha256: str) -> Hints:
    """Return the preprocessing and labels that torchvision publishes for an architecture.

    Their source is "weights metadata" where the file, by its ``sha256``, is one that torchvision
    published; else they are those of its first ImageNet weights, and "assumed". Nothing for None.
    """
    if recognised is None:
        return Hints()
    versions = list(_versions(recognised.name))
    for weights in versions:
        if _is_file_of(weights, sha256):
            return published_hints(weights, recognised, "weights metadata")
    suiting = [weights for weights in versions if _crop(weights)[0] == recognised.image_size]
    return published_hints((suiting or versions)[0], recognised, "assumed")


def published_hints(weights: Any, recognised: Recognised | None, source: Source) -> Hints:
    """Return preprocessing and labels of ``weights`` as far as they suit what was recognised.

    Labels only for exactly 1000 classes, mean and standard deviation only for three channels, and
    nothing for None.
    """
    if recognised is None:
        return Hints()
    transforms, side = weights.transforms(), recognised.image_size
    resize, crop = transforms.resize_size[0], _crop(weights)
    if side is not None and crop != (side, side):
        resize, crop = side, (side, side)
    in_colour = recognised.channels == RGB
    return Hints(
        labels=_labels(weights, recognised.classes, source),
        resize=Known(resize, source),
        crop=Known(crop, source),
        interpolation=Known(transforms.interpolation.value, source),
        mean=Known(tuple(transforms.mean), source) if in_colour else None,
        std=Known(tuple(transforms.std), source) if in_colour else None,
        transform_input=_renormalised(recognised, source),
    )


def timm_hints(network: nn.Module, source: Source = "assumed") -> Hints:
    """Return the preprocessing that timm knows for the weights of a network.

    Mean and standard deviation are given only where there is one for each channel.
    """
    data = _timm_data(network)
    channels, height, width = data["input_size"]
    interpolation = data["interpolation"]
    stated = len(data["mean"]) == len(data["std"]) == channels
    return Hints(
        channels=Known(channels, source),
        resize=Known(_timm_resize(data), source),
        crop=Known((height, width), source),
        interpolation=Known(interpolation if interpolation in _SHARED else "bicubic", source),
        mean=Known(tuple(data["mean"]), source) if stated else None,
        std=Known(tuple(data["std"]), source) if stated else None,
    )


def timm_notes(network: nn.Module) -> tuple[str, ...]:
    """Return a note where timm prepares pictures for a network in a way that is approximated."""
    data = _timm_data(network)
    _, height, width = data["input_size"]
    squashed = data["crop_mode"] == "squash"
    exact = squashed or (data["crop_mode"] == "center" and height == width)
    if exact and data["interpolation"] in _SHARED:
        return ()
    return (
        f"timm prepares pictures for this network with the crop mode '{data['crop_mode']}' and the "
        f"interpolation '{data['interpolation']}', which is approximated.",
    )


def _timm_data(network: nn.Module) -> Any:
    from timm.data import resolve_data_config

    return resolve_data_config(model=network)


def _timm_resize(data: Any) -> int | tuple[int, int]:
    """Return timm's resize: both sides where it squashes, else the short side of a square crop."""
    height, width = (math.floor(side / data["crop_pct"]) for side in data["input_size"][1:])
    return (height, width) if data["crop_mode"] == "squash" else max(height, width)


def _versions(name: str) -> Any:
    ensure_torchvision()
    from torchvision import models

    return models.get_model_weights(name)


def _labels(weights: Any, classes: int, source: Source) -> Known[tuple[str, ...]] | None:
    if classes != IMAGENET_CLASSES:
        return None
    return Known(tuple(weights.meta["categories"]), source)


def _renormalised(recognised: Recognised, source: Source) -> Known[bool] | None:
    able = recognised.name in RENORMALISING and recognised.channels == RGB
    return Known(True, source) if able else None


def _crop(weights: Any) -> tuple[int, int]:
    size = weights.transforms().crop_size[0]
    return size, size


def _is_file_of(weights: Any, sha256: str) -> bool:
    # torchvision ends the name of each file with the first digits of its SHA-256.
    digits = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", weights.url)
    return bool(digits and sha256.startswith(digits.group(1)))
