"""A synthetic report with its arrays: no model is run, but every number fits the curve behind it.

The picture is Chelsea the cat of scikit-image; maps are drawn around her face. Tests change the
result with ``model_copy`` or pass hostile words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sample_sentences import Words, sample_findings, sample_sections
from skimage import data

from reportgen.facts import facts_of
from reportgen.records import (
    Attribution,
    Box,
    Card,
    ClassScore,
    ImageRecord,
    Measurement,
    ModelRecord,
    Passes,
    Prediction,
    Preprocessing,
    Provenance,
    Report,
    Run,
    Skipped,
    Sourced,
)

Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]

TITLES = {
    "gradcam": "Grad-CAM",
    "shap": "SHAP",
    "lime": "LIME",
    "integrated-gradients": "Integrated Gradients",
    "saliency": "Saliency",
}
FIVE = tuple(TITLES)
TWELVE = (*FIVE, *(f"method-{i}" for i in range(6, 13)))
SIGNED = frozenset({"shap", "lime", "integrated-gradients"})
SEGMENTED = frozenset({"shap", "lime"})
CONTROLS = {"random": 3, "smooth-random": 3, "edges": 1, "centre": 1}
NOISES = ("gaussian", "shot", "impulse")
LAYERS = {"gradcam": "layer4.2.conv3"}
CHECKS = {
    "gradcam": ("negative_share", 0.41),
    "shap": ("additivity_gap", 0.0004),
    "lime": ("surrogate_r2", 0.624),
    "integrated-gradients": ("completeness_gap", 0.012),
}
MATRIX_AREA = 0.2


@cache
def picture() -> NDArray[np.uint8]:
    """Return Chelsea (300, 451, 3)."""
    return np.asarray(data.chelsea())


def sample(
    methods: Sequence[str] = FIVE,
    size: Size = (224, 224),
    channels: int = 3,
    words: Words | None = None,
) -> tuple[Report, Arrays]:
    """Return a report over ``methods`` with its arrays; ``size`` is the input's (height, width)."""
    words = words or Words()
    arrays = _pictures(size, channels)
    measurements = [
        *(m for i, method in enumerate(methods) for m in _measured(method, i, arrays)),
        *(m for control in CONTROLS for m in _curves(control, arrays)),
        *_pairs(methods, arrays),
        *_rotation(arrays),
        *_noise(arrays),
    ]
    report = Report(
        model=_model(words, channels, size),
        image=_image(words),
        prediction=_prediction(words),
        attributions=tuple(_attribution(method) for method in methods),
        measurements=tuple(measurements),
        skipped=_SKIPPED,
        metrics=_METRICS,
        facts=(),
        findings=(),
        sections=(),
        provenance=_PROVENANCE,
        run=Run(
            created="2026-11-22T09:30:00+00:00",
            seconds={"prediction": 0.08, "attribution": 9.43, "metrics": 21.72, "total": 31.23},
        ),
    )
    return written(report, words), arrays


def written(report: Report, words: Words | None = None) -> Report:
    """Return ``report`` with facts, findings and sections that fit its measurements."""
    facts = {fact.name: fact for fact in facts_of(report)}
    return report.model_copy(
        update={
            "facts": tuple(facts.values()),
            "findings": sample_findings(facts),
            "sections": sample_sections(report, facts, words or Words()),
        }
    )


def _noise_field(seed: int, size: Size) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def _bump(size: Size, down: float, across: float, width: float) -> NDArray[np.float32]:
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
    distance = ((y - down) ** 2 + (x - across) ** 2) / width**2
    return np.exp(-distance / 2).astype(np.float32)


def _pictures(size: Size, channels: int) -> Arrays:
    """Return the display copy, what the network saw, and the crop between them."""
    original = picture()
    height, width = original.shape[:2]
    aspect = min(width / size[1], height / size[0])
    half_width, half_height = size[1] * aspect / 2, size[0] * aspect / 2
    crop = (width / 2 - half_width, height / 2 - half_height)
    box = (*crop, width / 2 + half_width, height / 2 + half_height)
    seen = Image.fromarray(original).resize((size[1], size[0]), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(seen if channels == 3 else seen.convert("L"))
    return {
        "original": original,
        "input": pixels.reshape(*size, channels),
        "crop": np.array(box, np.float32),
    }


def _map(method: str, index: int, size: Size) -> NDArray[np.float32]:
    face = _bump(size, 0.42, 0.5 + 0.02 * index, 0.14 + 0.015 * index)
    if method == "saliency":
        return np.abs(_noise_field(index, size)) * (face + 0.05) * 0.013
    if method == "integrated-gradients":
        return _noise_field(index, size) * (face + 0.08) * 0.004
    if method in SIGNED:
        return 0.31 * face - 0.06 * _bump(size, 0.85, 0.2, 0.2)
    coarse = Image.fromarray(face).resize((7, 7), Image.Resampling.BOX)
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BILINEAR), np.float32)


def _segments(size: Size) -> NDArray[np.int32]:
    """Return fifty cells around seeded centres."""
    centres = np.random.default_rng(0).uniform(size=(50, 2)) * size
    places = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)
    squares = ((places[:, :, None, :] - centres) ** 2).sum(axis=-1)
    return np.asarray(squares.argmin(axis=-1), np.int32)


def _by_segment(values: NDArray[np.float32], segments: NDArray[np.int32]) -> NDArray[np.float32]:
    sums = np.bincount(segments.ravel(), values.ravel())
    counts = np.bincount(segments.ravel()).clip(1)
    return np.asarray((sums / counts)[segments], np.float32)


def _measured(method: str, index: int, arrays: Arrays) -> list[Measurement]:
    size = arrays["input"].shape[:2]
    values = _map(method, index, (size[0], size[1]))
    if method in SEGMENTED:
        arrays[f"segments.{method}"] = _segments((size[0], size[1]))
        values = _by_segment(values, arrays[f"segments.{method}"])
    arrays[f"map.{method}"] = values
    held = {"relevance_in_top": 0.61 - 0.05 * index, "centre_x": 0.5, "centre_y": 0.42}
    measurements = [Measurement(metric=m, subject=method, value=v) for m, v in held.items()]
    change = 0.12 + 0.17 * index
    measurements.append(
        Measurement(metric="sensitivity", subject=method, value=change, direction="lower is better")
    )
    if method in CHECKS:
        metric, value = CHECKS[method]
        measurements.append(Measurement(metric=metric, subject=method, value=value))
    return [*measurements, *_curves(method, arrays, index)]


def _curves(subject: str, arrays: Arrays, index: int = 0) -> list[Measurement]:
    """Return the deletion and insertion of a method or control, with curves that fit them."""
    fractions = np.linspace(0, 1, 17)
    draws = CONTROLS.get(subject, 1)
    speed = 2.2 if subject in CONTROLS else 7.0 * 0.88**index
    speeds = speed * (1 + 0.12 * np.arange(draws))[:, None]
    falling = 0.62 * np.exp(-speeds * fractions) + 0.004
    rising = 0.62 * (1 - np.exp(-speeds * fractions)) + 0.004
    found = {"deletion": (falling, "lower is better"), "insertion": (rising, "higher is better")}
    measurements = []
    for metric, (values, direction) in found.items():
        name = f"curve.{metric}.{subject}"
        arrays[name] = np.vstack([fractions, values]).astype(np.float32)
        areas = np.trapezoid(values, fractions, axis=1)
        interval = (areas.min(), areas.max()) if draws > 1 else None
        measurements.append(
            Measurement(
                metric=metric, subject=subject, value=areas.mean(), direction=direction,
                range=(0, 1), interval=interval, array=name, settings={"baseline": "mean"},
                detail={"first probability": values[0, 0], "last probability": values[0, -1]},
            )
        )  # fmt: skip
    return measurements


def _pairs(methods: Sequence[str], arrays: Arrays) -> list[Measurement]:
    count = len(methods)
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    arrays["agreement.iou"] = (0.85**apart * np.where(apart, 0.7, 1)).astype(np.float32)
    arrays["agreement.spearman"] = (1 - 0.31 * apart).clip(-1, 1).astype(np.float32)
    settings = {"area": MATRIX_AREA, "expected at random": MATRIX_AREA / (2 - MATRIX_AREA)}
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return [
        Measurement(
            metric=metric, subject=f"{methods[i]}~{methods[j]}", settings=settings,
            value=float(arrays[f"agreement.{metric}"][i, j]), direction="higher is better",
        )
        for i, j in pairs
        for metric in ("iou", "spearman")
    ] + _consensus(count)  # fmt: skip


def _consensus(count: int) -> list[Measurement]:
    held = {"consensus_area": 0.134, "centre_x": 0.5, "centre_y": 0.42}
    return [
        Measurement(metric=metric, subject="consensus", value=value)
        for metric, value in held.items()
        if count > 1
    ]


def _rotation(arrays: Arrays) -> list[Measurement]:
    angles = np.linspace(-180, 180, 121)
    probabilities = 0.02 + 0.604 * np.exp(-((angles / 34) ** 2))
    arrays["curve.rotation"] = np.stack([angles, probabilities]).astype(np.float32)
    turned = Image.fromarray(np.squeeze(arrays["input"])).rotate(41)
    arrays["rotation.flipped.positive"] = np.asarray(turned).reshape(arrays["input"].shape)
    shared: dict[str, Any] = {"metric": "rotation_flip", "direction": "higher is better"}
    settings = {"grid": 3.0, "limit": 180.0}
    return [
        Measurement(
            subject="positive", value=41.17, interval=(41.16, 41.17), settings=settings,
            detail={"new class": "Egyptian cat"}, **shared,
        ),
        Measurement(
            subject="negative", value=None, settings=settings,
            note="no change up to 180 degrees", **shared,
        ),
    ]  # fmt: skip


def _noise(arrays: Arrays) -> list[Measurement]:
    severities = np.arange(1, 6)
    kept = np.exp(-np.outer([0.16, 0.19, 0.33], severities)).astype(np.float32)
    arrays["noise.retention"] = kept
    levels = enumerate(NOISES)
    arrays["noise.examples"] = np.stack([_noisy(arrays["input"], seed) for seed, _ in levels])
    return [
        Measurement(metric=metric, subject=f"{kind} {severity}", value=float(value))
        for row, kind in enumerate(NOISES)
        for severity in severities
        for metric, value in (
            ("noise_retention", kept[row, severity - 1]),
            ("noise_flips", float(kept[row, severity - 1] < 0.4)),
        )
    ]


def _noisy(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    shift = np.random.default_rng(seed).normal(0, 45, pixels.shape)
    return np.clip(pixels + shift, 0, 255).astype(np.uint8)


def _model(words: Words, channels: int, size: Size) -> ModelRecord:
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    return ModelRecord(
        name=words.model,
        format="state dict",
        architecture="torchvision:resnet50",
        file_sha256="11ad3fa6" * 8,
        weights_sha256="0c1d2e3f" * 8,
        parameters=25_557_032,
        classes=1000,
        head=Sourced(value="softmax", source="detected"),
        labels=Sourced(value=[words.label, *(f"class {i}" for i in range(1, 30))], source="file"),
        preprocessing=Preprocessing(channels=channels, resize=256, crop=size, mean=mean, std=std),
        preprocessing_sources={
            "channels": "detected",
            "resize": "assumed",
            "crop": "weights metadata",
            "mean": "assumed",
            "std": "assumed",
        },
        notes=("The architecture was recognised from the names and shapes of the weights.",),
    )


def _image(words: Words) -> ImageRecord:
    height, width = picture().shape[:2]
    crop = Box(left=75.5, top=0, right=375.5, bottom=300)
    return ImageRecord(
        name=words.image, sha256="ab54a98c" * 8, width=width, height=height, mode="RGB", crop=crop
    )


def _prediction(words: Words) -> Prediction:
    labels = (words.label, "Egyptian cat", "tiger cat", "lynx", "Persian cat")
    values = (0.6238, 0.2014, 0.1431, 0.0096, 0.0007)
    top = tuple(
        ClassScore(index=281 + i, label=label, probability=value, score=9.41 - i)
        for i, (label, value) in enumerate(zip(labels, values, strict=True))
    )
    return Prediction(top=top, target=top[0], target_source="top class")


def _attribution(method: str) -> Attribution:
    resolutions = {"gradcam": "7x7 feature map", "shap": "50 segments", "lime": "50 segments"}
    settings: Mapping[str, Any] = {"layer": LAYERS[method]} if method in LAYERS else {"seed": 0}
    segments = {"segments": f"segments.{method}"} if method in SEGMENTED else {}
    return Attribution(
        method=method,
        card=_card(method, TITLES.get(method, method.capitalize())),
        array=f"map.{method}",
        signed=method in SIGNED,
        resolution=resolutions.get(method, "every pixel"),
        settings=settings,
        arrays=segments,
    )


def _card(key: str, title: str) -> Card:
    return Card(
        key=key,
        title=title,
        category="class activation map" if key == "gradcam" else "attribution",
        definition="Channels of one feature map, each weighted by the mean gradient of the class "
        "score over its places, added up; negative sums are set to zero.",
        paper="Selvaraju et al., Grad-CAM, ICCV 2017, arXiv 1610.02391",
        range=(None, None) if key in SIGNED else (0, None),
        needs="gradients of an inner feature map",
        seeding="deterministic",
        self_check="share of places where the sum is negative and is cut to zero",
        limits="As coarse as the feature map: it shows where evidence for the class was found, not "
        "what it was, and no evidence against the class.",
    )


_METRICS = tuple(
    Card(
        key=key,
        title=title,
        category=category,
        definition="Area under the probability of the explained class while pixels are replaced "
        "by the baseline, the most important ones first; trapezoid rule over the share replaced.",
        paper="Petsiuk et al., RISE, BMVC 2018, arXiv 1806.07421",
        direction="lower is better" if key != "insertion" else "higher is better",
        range=(0, 1),
        needs="predictions",
        seeding="ties in the map are broken by the seed",
        limits="Pictures with replaced pixels lie outside of what the model was trained on.",
    )
    for key, title, category in (
        ("deletion", "Deletion AUC", "faithfulness"),
        ("insertion", "Insertion AUC", "faithfulness"),
        ("sensitivity", "Max-sensitivity", "robustness of the map"),
    )
)
_SKIPPED = (
    Skipped(step="sensitivity", subject="lime", reason="One copy takes longer than the limit."),
    Skipped(step="hirescam", reason="The head of the network is not one linear layer."),
)
_PROVENANCE = Provenance(
    reportgen="0.1.0",
    python="3.11.9",
    platform="Linux x86_64",
    packages={
        "torch": "2.13.0",
        "torchvision": "0.28.0",
        "captum": "0.9.0",
        "shap": "0.51.0",
        "lime": "0.2.0.1",
        "grad-cam": "1.5.7",
        "numpy": "2.4.6",
    },
    device="cpu",
    precision="float32",
    batch_size=32,
    threads=2,
    determinism="bitwise repeatable on this machine",
    seed=0,
    config={
        "profile": "standard",
        "seed": 0,
        "methods": "gradcam,shap,lime,integrated-gradients,saliency",
        "curve_steps": 16,
        "rotation_step": 3.0,
        "batch_size": None,
    },
    passes=(
        Passes(stage="prediction", forward=1, backward=0),
        Passes(stage="attribution", forward=552, backward=52),
        Passes(stage="metrics", forward=870, backward=0),
    ),
)
