"""One model and one picture, ready to be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reportgen.attribution import Request, layer_finder
from reportgen.attribution.segmentation import FEWEST, segment
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.layers import FeatureLayer
from reportgen.classifier.preprocessing import Prepared, display_copy, prepare, prepare_mask
from reportgen.classifier.targets import Target
from reportgen.config import Config
from reportgen.image import Picture
from reportgen.mask import mask_for, mask_source, open_mask
from reportgen.precision import choose_precision
from reportgen.records import ImageRecord, Mask, PrecisionCheck, Prediction, Preprocessing

_DISPLAY_SIDE = 1024


@dataclass(frozen=True)
class Subject:
    """One model and one picture, ready to be explained."""

    classifier: Classifier
    picture: Picture
    prepared: Prepared
    pixels: Tensor
    prediction: Prediction
    config: Config
    segments: NDArray[np.int64]
    segmentation: str
    layer: Callable[[], FeatureLayer]
    mask: Tensor | None
    mask_record: Mask | None
    precision: PrecisionCheck | None

    def request(self, pixels: Tensor, config: Config) -> Request:
        """Return the request to explain pixels (n, C, H, W) under ``config``.

        Another target or seed in ``config`` than the run's is honoured.
        """
        index = self.prediction.target.index
        if config.target != self.config.target:  # a metric looks at another class
            index = self.classifier.find_target(config.target)
        return Request(
            classifier=self.classifier,
            pixels=pixels,
            target=index,
            config=config.model_copy(update={"segmentation": self.segmentation}),
            seed=config.seed,
            segments=self.segments,
            layer=self.layer,
        )


def targets_for(classifier: Classifier, picture: Picture, config: Config) -> tuple[Target, ...]:
    """Return what ``config.target`` asks for of the picture, one or several targets.

    Raises UsageError for a target that the model does not know.
    """
    prepared = prepare(picture.image, classifier.record.preprocessing, picture.planes)
    return classifier.targets(prepared.pixels.to(classifier.device), config.target)


def make_subject(
    classifier: Classifier, picture: Picture, config: Config, target: Target | None = None
) -> Subject:
    """Return the picture as the network sees it, with what the network says of it.

    ``target`` is what to explain, else what ``config`` asks for. Raises UsageError for a target
    that the model does not know, or for several.
    """
    prepared = prepare(picture.image, classifier.record.preprocessing, picture.planes)
    pixels = prepared.pixels.to(classifier.device)
    prediction = classifier.predict(pixels, target or config.target)
    classifier = classifier.explaining(prediction.contrast)
    segments, kind = segment(prepared.pixels, config)
    mask = _mask(picture, classifier.record.preprocessing, config)
    places, index = torch.from_numpy(segments).to(pixels.device), prediction.target.index
    return Subject(
        classifier=classifier,
        picture=picture,
        prepared=prepared,
        pixels=pixels,
        prediction=prediction,
        config=config,
        segments=segments,
        segmentation=kind,
        layer=layer_finder(classifier, pixels, index, config.layer),
        mask=None if mask is None else mask.to(classifier.device),
        mask_record=None if mask is None else _mask_record(mask, picture, config),
        precision=choose_precision(classifier, pixels, places, index, config.seed),
    )


def image_record(subject: Subject) -> ImageRecord:
    """Return what the report says of the picture."""
    picture = subject.picture
    width, height = picture.image.size
    return ImageRecord(
        name=picture.name,
        sha256=picture.sha256,
        width=width,
        height=height,
        mode=picture.mode,
        crop=subject.prepared.crop,
        notes=(*picture.notes, *subject.prepared.notes, *_segment_notes(subject)),
        mask=subject.mask_record,
    )


def pictures(subject: Subject) -> Mapping[str, NDArray[np.generic]]:
    """Return what is drawn of the picture, by the name of its array.

    ``original`` is a copy of at most 1024 pixels a side, uint8 (height, width, 3); ``crop`` the
    left, top, right and bottom in it of what the network sees. That is ``input``, uint8 (H, W, C),
    and ``mask``, where there is one, uint8 (H, W) of 0 and 1.
    """
    copy, crop = display_copy(subject.picture.image, subject.prepared.crop, _DISPLAY_SIDE)
    seen = (subject.prepared.pixels.permute(1, 2, 0) * 255).round().byte().numpy()
    edges = (crop.left, crop.top, crop.right, crop.bottom)
    marked = {} if subject.mask is None else {"mask": subject.mask.cpu().byte().numpy()}
    return {
        **marked,
        "original": np.asarray(copy.convert("RGB")),
        "input": seen,
        "crop": np.asarray(edges, dtype=np.float32),
    }


def _segment_notes(subject: Subject) -> tuple[str, ...]:
    asked = subject.config.segmentation
    if subject.segmentation == asked:
        return ()
    return (f"cut into a grid, as {asked} found fewer than {FEWEST} segments in it",)


def _mask(picture: Picture, preprocessing: Preprocessing, config: Config) -> Tensor | None:
    """Return where the object is, as the network sees it (H, W) bool; None where nobody says."""
    if not config.mask:
        return None
    mask = open_mask(mask_for(config.mask, picture.name), picture.image.size)
    return prepare_mask(mask, preprocessing)


def _mask_record(mask: Tensor, picture: Picture, config: Config) -> Mask:
    name, sha256 = mask_source(mask_for(config.mask, picture.name))
    return Mask(name=name, sha256=sha256, share=float(mask.double().mean()))
