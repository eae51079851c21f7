"""The rules, each with its threshold and severity, in the order of their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reportgen.facts import (
    CONSTANT_MAP,
    DESTROYED,
    FAILS_FROM,
    SEEDS,
    SIGNIFICANT,
    STABLE,
    assumptions,
    decimal,
    degrees,
    normalised_twice,
    percent,
)
from reportgen.findings.curves import as_good, controls, signal, simple_controls
from reportgen.findings.view import Rule, View, threshold_of
from reportgen.records import Finding, Severity

SMALL_MARGIN = 0.1
SMALL_ROTATION = 5.0
MODERATE_ROTATION = 15.0
WEAK_SEVERITY = 2
NOISES = ("gaussian", "shot", "impulse")
LARGE_SENSITIVITY = 0.5
LARGE_COMPLETENESS_GAP = 0.05
LOW_R2 = 0.5
LARGE_ADDITIVITY_GAP = 0.01


def _margin(view: View) -> Iterator[Finding]:
    margin = view.value("prediction.margin")
    if margin is not None and margin < SMALL_MARGIN:
        yield view.finding("low-margin", "caution", threshold_of("margin", decimal(SMALL_MARGIN)))


def _threshold(view: View) -> Iterator[Finding]:
    probability, least = view.value("prediction.watched.probability"), view.report.prediction
    if probability is None or least.threshold is None:
        return
    if probability < least.threshold:
        yield view.finding("label-not-held", "note", threshold_of("label-not-held"))
    if abs(probability - least.threshold) < SMALL_MARGIN:
        threshold = threshold_of("near-threshold", decimal(SMALL_MARGIN))
        yield view.finding("near-threshold", "caution", threshold)


def _target(view: View) -> Iterator[Finding]:
    prediction = view.report.prediction
    if prediction.contrast is not None:
        yield view.finding("contrast", "note", threshold_of("contrast"))
    elif prediction.threshold is None and prediction.target.index != prediction.top[0].index:
        yield view.finding("other-target", "note", threshold_of("other-target"))


def _assumed(view: View) -> Iterator[Finding]:
    if assumptions(view.report):
        yield view.finding("assumed", "caution", threshold_of("assumed"))


def _normalised(view: View) -> Iterator[Finding]:
    if normalised_twice(view.report):
        yield view.finding("normalised-twice", "caution", threshold_of("normalised-twice"))


def _layer(view: View) -> Iterator[Finding]:
    if "layer.failing" in view.wording.facts:
        yield view.finding("layer-fails", "caution", threshold_of("layer-fails"))
    elif view.value("layer.removal") is False and view.value("layer.score") is not None:
        yield view.finding("layer-unclear", "caution", threshold_of("layer-unclear"))


def _pickle(view: View) -> Iterator[Finding]:
    if view.report.model.trusted_pickle:
        yield view.finding("trusted-pickle", "note", threshold_of("trusted-pickle"))


def _agreement(view: View) -> Iterator[Finding]:
    mean, floor = view.value("agreement.mean_iou"), view.value("agreement.iou_floor")
    if mean is None or floor is None:
        return
    threshold = threshold_of("agreement", decimal(floor))
    if mean < 2 * floor:
        yield view.finding("methods-disagree", "caution", threshold)


def _rotation(view: View) -> Iterator[Finding]:
    if "rotation.first" not in view.wording.facts:
        return
    first = view.value("rotation.first")
    several = view.report.prediction.threshold is not None
    flips = "rotation-crosses" if several else "rotation-flips"
    if first is None:
        yield view.finding("no-rotation-flips", "pass", threshold_of("rotation-any"))
    elif first < SMALL_ROTATION:
        yield view.finding(
            flips, "problem", threshold_of("rotation-below", degrees(SMALL_ROTATION))
        )
    elif first < MODERATE_ROTATION:
        threshold = threshold_of("rotation-below", degrees(MODERATE_ROTATION))
        yield view.finding(flips, "caution", threshold)
    else:
        threshold = threshold_of("rotation-none-below", degrees(MODERATE_ROTATION))
        yield view.finding(
            "rotation-crosses-late" if several else "rotation-holds", "pass", threshold
        )


def _blur(view: View) -> Iterator[Finding]:
    blur = view.report.measurement("interpolation_blur_flip", "prediction")
    if blur is not None and blur.value:
        yield view.finding("blur-flips", "caution", threshold_of("blur"))


def _noise(view: View) -> Iterator[Finding]:
    for kind in NOISES:
        first = view.value(f"noise.{kind}.first")
        if first is not None and first <= WEAK_SEVERITY:
            threshold = threshold_of("noise", str(WEAK_SEVERITY))
            several = view.report.prediction.threshold is not None
            yield view.finding(
                "noise-crosses" if several else "noise-flips", "caution", threshold, kind
            )


def _sensitivity(view: View) -> Iterator[Finding]:
    for attribution in view.report.attributions:
        value = view.value(f"{attribution.method}.sensitivity")
        if value is not None and value > LARGE_SENSITIVITY:
            threshold = threshold_of("sensitivity", decimal(LARGE_SENSITIVITY))
            yield view.finding("sensitive-map", "caution", threshold, attribution.method)


def _self_checks(view: View) -> Iterator[Finding]:
    for metric, fails, limit, severity in _CHECKS:
        for attribution in view.report.attributions:
            check = view.report.measurement(metric, attribution.method)
            if check is not None and check.value is not None and fails(check.value):
                threshold = threshold_of(metric, limit)
                yield view.finding(f"{metric}-fails", severity, threshold, attribution.method)


_CHECKS: tuple[tuple[str, Callable[[float], bool], str, Severity], ...] = (
    (
        "completeness_gap",
        lambda gap: gap > LARGE_COMPLETENESS_GAP,
        percent(LARGE_COMPLETENESS_GAP),
        "caution",
    ),
    ("surrogate_r2", lambda r2: r2 < LOW_R2, decimal(LOW_R2), "caution"),
    (
        "additivity_gap",
        lambda gap: gap > LARGE_ADDITIVITY_GAP,
        decimal(LARGE_ADDITIVITY_GAP),
        "problem",
    ),
    ("negative_share", lambda share: share >= 1, "", "problem"),
)


def _flat(view: View) -> Iterator[Finding]:
    for attribution in view.report.attributions:
        if CONSTANT_MAP in attribution.notes:
            threshold = threshold_of("constant-map")
            yield view.finding("constant-map", "problem", threshold, attribution.method)


def _destroyed(view: View) -> Iterator[Finding]:
    told = [(a.method, view.text(f"{a.method}.{DESTROYED}.verdict")) for a in view.attributions]
    failing = [method for method, verdict in told if verdict == "fails"]
    for method in failing:
        yield view.finding("ignores-model", "problem", _unchanged(), method)
    if not failing and "sanity.passing" in view.wording.facts:
        yield view.finding("notices-model", "pass", _unchanged())


def _unchanged() -> str:
    return threshold_of("unchanged", str(FAILS_FROM))


def _seeds(view: View) -> Iterator[Finding]:
    for attribution in view.attributions:
        method = attribution.method
        if view.text(f"{method}.{SEEDS}.verdict") == "unstable":
            yield view.finding(
                "unstable-seeds", "caution", threshold_of("seeds", str(STABLE)), method
            )


def _object(view: View) -> Iterator[Finding]:
    for attribution in view.attributions:
        own = view.report.measurement("relevance_rank_accuracy", attribution.method)
        if own is None or own.yardstick is None or own.yardstick.p is None:
            continue
        if own.yardstick.p > SIGNIFICANT:
            yield view.finding("off-mask", "caution", as_good(), attribution.method)


def _agnostic(view: View) -> Iterator[Finding]:
    for attribution in view.attributions:
        if attribution.card.class_agnostic:
            threshold = threshold_of("class-agnostic")
            yield view.finding("class-agnostic", "note", threshold, attribution.method)


def _precision(view: View) -> Iterator[Finding]:
    check = view.report.provenance.precision_check
    if check is not None:
        threshold = threshold_of("precision", str(check.least))
        key = "precision-reduced" if check.used else "precision-kept"
        yield view.finding(key, "note", threshold)


def _skipped(view: View) -> Iterator[Finding]:
    if view.report.skipped:
        yield view.finding("skipped", "note", threshold_of("skipped"))


# The weightiest first, of findings as grave: what would change the whole report, what was
# predicted, whether the maps are evidence, how far to read them, and what the prediction survives.
RULES: tuple[Rule, ...] = (
    _normalised,
    _assumed,
    _margin,
    _threshold,
    controls,
    _flat,
    _destroyed,
    _layer,
    signal,
    _self_checks,
    _object,
    simple_controls,
    _agreement,
    _rotation,
    _blur,
    _noise,
    _seeds,
    _sensitivity,
    _target,
    _agnostic,
    _pickle,
    _precision,
    _skipped,
)
