"""Synthetic reports with the measurements that the metrics write, and all that is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from reportgen.facts import facts_of
from reportgen.findings import briefed, findings_of
from reportgen.layer_records import LayerCandidate, LayerCheck, LayerChoice, Outcome
from reportgen.metrics import METRICS
from reportgen.metrics.yardstick import placed
from reportgen.narrative.templates import sections_of
from reportgen.narrative.verdict import verdict_of
from reportgen.records import (
    Attribution,
    Box,
    Card,
    ClassScore,
    Contrast,
    Direction,
    Fact,
    Finding,
    Granularity,
    ImageRecord,
    Mask,
    Measurement,
    ModelRecord,
    Passes,
    Prediction,
    Preprocessing,
    Provenance,
    Quantity,
    Report,
    Run,
    Skipped,
    Sourced,
)

TITLES = {
    "gradcam": "Grad-CAM",
    "shap": "SHAP",
    "lime": "LIME",
    "integrated-gradients": "Integrated Gradients",
    "saliency": "Saliency",
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "gradcam": {"layer": "layer4.2", "score": "logit"},
    "shap": {"evaluations": 200, "fill": "blur", "segmentation": "slic", "seed": 0},
    "lime": {"samples": 300, "fill": "segment-mean", "segmentation": "grid", "seed": 0},
    "integrated-gradients": {"steps": 50, "baseline": "black", "rule": "Gauss-Legendre"},
    "saliency": {"score": "logit"},
    "rise": {"seed": 0},
}
RESOLUTIONS = {"gradcam": "7x7 feature map", "shap": "50 segments", "lime": "50 segments"}
GRANULARITIES: Mapping[str, Granularity] = {
    "gradcam": "feature map",
    "shap": "segments",
    "lime": "segments",
    "integrated-gradients": "pixels",
    "saliency": "pixels",
    "rise": "pixels",
    "occlusion": "patches",
    "scorecam": "feature map",
    "deconvolution": "pixels",
}
NOISES = ("gaussian", "shot", "impulse")
WHOLE = Box(left=0, top=0, right=500, bottom=400)
SEVERITIES = range(1, 6)


def told(report: Report) -> Report:
    """Return the report with facts, findings and sections, as the pipeline tells them."""
    report = report.model_copy(update={"facts": facts_of(report)})
    report = report.model_copy(update={"findings": findings_of(report)})
    report = report.model_copy(update={"facts": facts_of(report)})
    report = report.model_copy(update={"findings": briefed(report)})
    return report.model_copy(
        update={"sections": sections_of(report), "verdict": verdict_of(report)}
    )


def report_of(
    *measurements: Measurement,
    methods: Sequence[str] = ("gradcam",),
    skipped: Sequence[Skipped] = (),
    seconds: float = 1.0,
    layer: LayerChoice | None = None,
    crop: Box = WHOLE,
    **changes: Any,
) -> Report:
    """Return the told report; ``changes`` are of the model and the prediction, by field name."""
    model = {name: changes.pop(name) for name in list(changes) if name in ModelRecord.model_fields}
    notes = changes.pop("notes_of", {})
    assert not set(changes) - {"top", "target", "threshold", "contrast"}
    return told(
        Report(
            model=_model().model_copy(update=model),
            image=_IMAGE.model_copy(update={"crop": crop}),
            prediction=_prediction(**changes),
            layer=layer,
            attributions=tuple(attribution(m, *notes.get(m, ())) for m in methods),
            measurements=measurements,
            skipped=tuple(skipped),
            metrics=tuple(metric.card for metric in METRICS.values()),
            facts=(),
            findings=(),
            sections=(),
            provenance=_PROVENANCE,
            run=Run(created="2026-01-02T03:04:05+00:00", seconds={"prediction": seconds}),
        )
    )


def layer_of(
    removal: Outcome, source: Literal["option", "detected"] = "detected", scored: bool = True
) -> LayerChoice:
    """Return the choice of a layer with this outcome of its last check, and a runner-up.

    Unless ``scored``, removal changed too little to give numbers.
    """
    candidates = tuple(
        LayerCandidate(
            name=name, height=7, width=7, layout="tokens", prefix=1, channels=64,
            checks=(
                LayerCheck(key="finite", outcome="passes"),
                LayerCheck(key="removal", outcome=removal, value=score if scored else None),
            ),
        )
        for name, score in (("layer4.2", 2.5), ("layer3", 1.5))
    )  # fmt: skip
    return LayerChoice(
        source=source, chosen="layer4.2", runner_up="layer3", candidates=candidates,
        noise_maps=10 * scored, noise_mean=0.0 if scored else None,
        noise_sd=0.2 if scored else None,
    )  # fmt: skip


def fact(report: Report, name: str) -> Fact:
    found = report.fact(name)
    assert found is not None, f"there is no fact {name}"
    return found


def rules(report: Report) -> dict[str, Finding]:
    """Return the findings by rule and subject."""
    return {f"{f.rule} {f.subject}".strip(): f for f in report.findings}


def text(report: Report, key: str) -> str:
    """Return the text of one section."""
    (section,) = [section for section in report.sections if section.key == key]
    return " ".join(sentence.text for sentence in section.sentences)


def attribution(method: str, *notes: str) -> Attribution:
    title = TITLES.get(method, method)
    card = Card(
        key=method, title=title, category="", definition="", paper="", needs="", seeding="",
        granularity=GRANULARITIES.get(method), class_agnostic=method == "eigencam",
    )  # fmt: skip
    return Attribution(
        method=method,
        card=card,
        array=f"map.{method}",
        signed=False,
        resolution=RESOLUTIONS.get(method, "pixels"),
        settings=SETTINGS.get(method, {}),
        notes=notes,
    )


def curve(
    metric: str,
    subject: str,
    value: float | None,
    ends: tuple[float, float] | None = None,
    interval: tuple[float, float] | None = None,
    draws: int = 3,
) -> Measurement:
    """Return a deletion or insertion AUC, as metrics/fidelity.py writes it.

    It is placed among twenty smooth random maps, which reach 0.4 to 0.6. The picture has a
    probability of 0.9 and the baseline one of 0.1 where no ends are given.
    """
    first, last = ends or ((0.9, 0.1) if metric == "deletion" else (0.1, 0.9))
    direction: Direction = "lower is better" if metric == "deletion" else "higher is better"
    quantity = Quantity(key=metric, title=metric, direction=direction, range=(0, 1))
    own = subject != "smooth-random"
    return Measurement(
        metric=metric,
        subject=subject,
        value=value,
        direction=direction,
        yardstick=placed(quantity, value, np.linspace(0.4, 0.6, 20)) if own else None,
        range=(0, 1),
        interval=interval,
        settings={"baseline": "mean" if metric == "deletion" else "blur", "steps": 16},
        detail={
            "draws": [value] * (draws if interval else 1),
            "first probability": first,
            "last probability": last,
        },
        array=f"curve.{metric}.{subject}",
    )


def noise_curves(
    deletion: tuple[float, float] = (0.4, 0.6), insertion: tuple[float, float] = (0.4, 0.6)
) -> list[Measurement]:
    """Return smooth noise's curves with the lowest and highest of their draws."""
    bounds = {"deletion": deletion, "insertion": insertion}
    return [curve(m, "smooth-random", sum(b) / 2, interval=b) for m, b in bounds.items()]


def pair(first: str, second: str, overlap: float | None, order: float | None) -> list[Measurement]:
    subject, settings = f"{first}~{second}", {"area": 0.2, "expected at random": 1 / 9}
    return [
        Measurement(metric="iou", subject=subject, value=overlap, settings=settings),
        Measurement(
            metric="spearman",
            subject=subject,
            value=order,
            note="" if order is not None else "one of the maps is constant",
        ),
    ]


def located(subject: str, share: float, across: float, down: float) -> list[Measurement]:
    metric = "consensus_area" if subject == "consensus" else "relevance_in_top"
    return [
        Measurement(metric=metric, subject=subject, value=share, settings={"area": 0.2}),
        Measurement(metric="centre_x", subject=subject, value=across),
        Measurement(metric="centre_y", subject=subject, value=down),
    ]


def rotation(side: str, angle: float | None) -> Measurement:
    return Measurement(
        metric="rotation_flip",
        subject=side,
        value=angle,
        unit="degrees",
        direction="higher is better",
        interval=None if angle is None else (angle - 0.01, angle),
        settings={"grid": 3.0, "limit": 180.0},
        detail={} if angle is None else {"new class": f"newt {side}"},
        note="no change up to 180 degrees" if angle is None else "",
    )


def blur(flips: bool) -> Measurement:
    metric = "interpolation_blur_flip"
    return Measurement(metric=metric, subject="prediction", value=float(flips))


def noise(metric: str, kind: str, severity: int, value: float) -> Measurement:
    settings = {"constants": "ImageNet-C", "spread, in pixel values": 0.1}
    return Measurement(metric=metric, subject=f"{kind} {severity}", value=value, settings=settings)


def sensitivity(method: str, value: float | None, draws: int = 2) -> Measurement:
    return Measurement(
        metric="sensitivity",
        subject=method,
        value=value,
        settings={"radius": 4 / 255, "draws": draws},
        note="the map is zero everywhere" if value is None else "",
    )


def verdict(metric: str, subject: str, said: str, value: float | None = 0.6) -> Measurement:
    """Return a measurement with a verdict, as sanity checks and repeats under seeds give it."""
    detail: dict[str, Any] = {"verdict": said}
    if said == "unstable":
        detail |= {"samples that settle it": None, "not settled at": 4000}
    note = "" if value is not None else "the map of the re-drawn model is constant"
    settings = {"seeds": 10} if metric == "seed_jaccard_5" else {}
    return Measurement(
        metric=metric, subject=subject, value=value, detail=detail, note=note, settings=settings
    )


def on_mask(subject: str, value: float) -> Measurement:
    """Return a relevance rank accuracy among smooth random maps that reach 0.1 to 0.4."""
    quantity = Quantity(key="relevance_rank_accuracy", title="", direction="higher is better")
    return Measurement(
        metric=quantity.key,
        subject=subject,
        value=value,
        direction=quantity.direction,
        yardstick=placed(quantity, value, np.linspace(0.1, 0.4, 20)),
    )


def check(metric: str, subject: str, value: float | None) -> Measurement:
    note = "" if value is not None else "the score is the same on both"
    return Measurement(metric=metric, subject=subject, value=value, note=note)


CHECKED = {
    "gradcam": "negative_share",
    "shap": "additivity_gap",
    "lime": "surrogate_r2",
    "integrated-gradients": "completeness_gap",
}


def everything(methods: Sequence[str] = tuple(TITLES)) -> list[Measurement]:
    """Return one of each measurement that the standard metrics make."""
    names = list(methods)
    controls = [curve(m, c, 0.5) for m in ("deletion", "insertion") for c in ("edges", "centre")]
    found = [*noise_curves(), *controls]
    for i, method in enumerate(names):
        found += [curve("deletion", method, 0.3 + 0.04 * i), curve("insertion", method, 0.7)]
        found += located(method, 0.5 + 0.05 * i, 0.1 + 0.2 * i, 0.5)
        found += [sensitivity(method, 0.1 + 0.15 * i), on_mask(method, 0.5)]
        found += [verdict("randomised_spearman", method, "passes", 0.1)]
        found += [verdict("seed_jaccard_5", method, "unstable")] if method == "lime" else []
        found += [check(CHECKED[method], method, 0.01)] if method in CHECKED else []
        found += [m for j in range(i) for m in pair(names[j], method, 0.1 * i + 0.02 * j, 0.3)]
    found += located("consensus", 0.12, 0.5, 0.9) if len(names) > 1 else []
    found += [rotation("positive", 41.17), rotation("negative", None), blur(False)]
    for kind in NOISES:
        for severity in SEVERITIES:
            found.append(noise("noise_retention", kind, severity, 1 - 0.15 * severity))
            found.append(noise("noise_flips", kind, severity, float(severity > 3)))
    return found


def _prediction(
    top: Sequence[tuple[str, float]] = (("newt", 0.7), ("toad", 0.2), ("frog", 0.1)),
    target: int = 0,
    threshold: float | None = None,
    contrast: tuple[int, int] | None = None,
) -> Prediction:
    classes = tuple(
        ClassScore(index=i, label=label, probability=value, score=9.0 - i)
        for i, (label, value) in enumerate(top)
    )
    source = "option" if target or contrast else "top class"
    asked = Prediction(
        top=classes, target=classes[target], target_source=source, threshold=threshold
    )
    return _contrasted(asked, *contrast) if contrast else asked


def _contrasted(prediction: Prediction, one: int, other: int) -> Prediction:
    """Return the prediction in which it is explained why the one class and not the other."""
    first, second = prediction.top[one], prediction.top[other]
    target = ClassScore(
        index=len(prediction.top),
        label=f"{first.label} rather than {second.label}",
        probability=first.probability / (first.probability + second.probability),
        score=first.score - second.score,
    )
    both = Contrast(first=first, second=second)
    return prediction.model_copy(update={"target": target, "contrast": both})


def _model() -> ModelRecord:
    names = ("channels", "resize", "crop", "interpolation", "mean", "std")
    return ModelRecord(
        name="pond.pth",
        format="state dict",
        architecture="torchvision:resnet18",
        file_sha256=None,
        weights_sha256="0" * 64,
        parameters=11_689_512,
        classes=1000,
        head=Sourced(value="softmax of logits", source="detected"),
        labels=Sourced(value=["newt", "toad", "frog"], source="file"),
        preprocessing=Preprocessing(
            channels=3, resize=256, crop=(224, 256), mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        preprocessing_sources=dict.fromkeys(names, "file"),
    )


_IMAGE = ImageRecord(
    name="pond.jpg",
    sha256="1" * 64,
    width=500,
    height=400,
    mode="RGB",
    crop=WHOLE,
    mask=Mask(name="pond.png", sha256="2" * 64, share=0.25),
)
_PROVENANCE = Provenance(
    reportgen="0.1.0",
    python="3.11",
    platform="test",
    packages={},
    device="cpu",
    precision="float32",
    batch_size=8,
    threads=1,
    determinism="seeded",
    seed=0,
    config={},
    passes=(
        Passes(stage="prediction", forward=1, backward=0),
        Passes(stage="gradcam", forward=1200, backward=2),
    ),
)
