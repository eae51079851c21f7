"""Findings: rules over the facts, each with its threshold and severity.

A rule looks at one thing. It gives "problem" where a conclusion would be wrong, "caution" where it
would be weak, "note" for what a reader must know, and "pass" where a test was made and held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reportgen.facts import (
    CONSTANT_MAP,
    CURVES,
    DESTROYED,
    FAILS_FROM,
    LITTLE_CHANGE,
    SEEDS,
    SIGNIFICANT,
    STABLE,
    assumptions,
    better,
    decimal,
    degrees,
    normalised_twice,
    percent,
)
from reportgen.perturbation.controls import CONTROLS
from reportgen.phrases import phrase
from reportgen.records import Attribution, Finding, Report, Severity
from reportgen.wording import Wording, read_wording

SMALL_MARGIN = 0.1
SMALL_ROTATION = 5.0
MODERATE_ROTATION = 15.0
WEAK_SEVERITY = 2
NOISES = ("gaussian", "shot", "impulse")
LARGE_SENSITIVITY = 0.5
LARGE_COMPLETENESS_GAP = 0.05
LOW_R2 = 0.5
LARGE_ADDITIVITY_GAP = 0.01
_ORDER: Mapping[Severity, int] = {"problem": 0, "caution": 1, "note": 2, "pass": 3}


@dataclass(frozen=True)
class _View:
    """A report with its facts at hand, and the words for findings."""

    report: Report
    wording: Wording

    def value(self, name: str) -> float | None:
        """Return the number behind a fact, or None where there is no such fact or number."""
        fact = self.wording.facts.get(name)
        return fact.value if fact and isinstance(fact.value, float | int) else None

    def text(self, name: str) -> str:
        """Return the text of a fact; empty where there is no such fact."""
        fact = self.wording.facts.get(name)
        return fact.text if fact else ""

    @property
    def attributions(self) -> tuple[Attribution, ...]:
        """The maps of the report."""
        return self.report.attributions

    def finding(self, key: str, severity: Severity, threshold: str, subject: str = "") -> Finding:
        sentence = self.wording.sentence(key, subject)
        return Finding(
            rule=key,
            severity=severity,
            subject=subject,
            statement=sentence.text,
            facts=sentence.facts,
            threshold=threshold,
        )


def _limit(key: str, limit: str = "") -> str:
    """Return the threshold of a rule in words."""
    return phrase(f"threshold.{key}", limit=limit)


Rule = Callable[[_View], Iterator[Finding]]


def findings_of(report: Report) -> tuple[Finding, ...]:
    """Return what the rules conclude from a report that has its facts, the gravest first."""
    facts = {fact.name: fact for fact in report.facts}
    view = _View(report, read_wording("findings.toml", facts))
    found = [finding for rule in RULES for finding in rule(view)]
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def briefed(report: Report) -> tuple[Finding, ...]:
    """Return the findings, the first of each rule with a short sentence on all that it found.

    The report has its findings, and the facts that name what each rule found.
    """
    wording = read_wording("findings.toml", {fact.name: fact for fact in report.facts})
    told: set[str] = set()
    found = []
    for finding in report.findings:
        fresh, key = finding.rule not in told, f"{finding.rule}-brief"
        told.add(finding.rule)
        brief = wording.sentence(key, finding.rule) if fresh else None
        found.append(finding.model_copy(update={"brief": brief}))
    return tuple(found)


def _margin(view: _View) -> Iterator[Finding]:
    margin = view.value("prediction.margin")
    if margin is not None and margin < SMALL_MARGIN:
        yield view.finding("low-margin", "caution", _limit("margin", decimal(SMALL_MARGIN)))


def _threshold(view: _View) -> Iterator[Finding]:
    probability, least = view.value("prediction.watched.probability"), view.report.prediction
    if probability is None or least.threshold is None:
        return
    if probability < least.threshold:
        yield view.finding("label-not-held", "note", _limit("label-not-held"))
    if abs(probability - least.threshold) < SMALL_MARGIN:
        threshold = _limit("near-threshold", decimal(SMALL_MARGIN))
        yield view.finding("near-threshold", "caution", threshold)


def _target(view: _View) -> Iterator[Finding]:
    prediction = view.report.prediction
    if prediction.contrast is not None:
        yield view.finding("contrast", "note", _limit("contrast"))
    elif prediction.threshold is None and prediction.target.index != prediction.top[0].index:
        yield view.finding("other-target", "note", _limit("other-target"))


def _assumed(view: _View) -> Iterator[Finding]:
    if assumptions(view.report):
        yield view.finding("assumed", "caution", _limit("assumed"))


def _normalised(view: _View) -> Iterator[Finding]:
    if normalised_twice(view.report):
        yield view.finding("normalised-twice", "caution", _limit("normalised-twice"))


def _layer(view: _View) -> Iterator[Finding]:
    if "layer.failing" in view.wording.facts:
        yield view.finding("layer-fails", "caution", _limit("layer-fails"))


def _pickle(view: _View) -> Iterator[Finding]:
    if view.report.model.trusted_pickle:
        yield view.finding("trusted-pickle", "note", _limit("trusted-pickle"))


def _signal(view: _View) -> Iterator[Finding]:
    for metric in CURVES:
        change = view.value(f"{metric}.change")
        if change is not None and change <= LITTLE_CHANGE:
            threshold = _limit("little-signal", decimal(LITTLE_CHANGE))
            yield view.finding(f"little-signal-{metric}", "caution", threshold)


def _controls(view: _View) -> Iterator[Finding]:
    for attribution in view.report.attributions:
        method = attribution.method
        facts = [view.wording.facts.get(f"{method}.beats_noise.{metric}") for metric in CURVES]
        better = tuple(None if fact is None else bool(fact.value) for fact in facts)
        if better in _VERDICTS:
            key, severity = _VERDICTS[better]
            yield view.finding(key, severity, _as_good(), method)


def _as_good() -> str:
    return _limit("as-good", percent(SIGNIFICANT))


# Whether a map is better in deletion and in insertion; None where that curve cannot tell.
_VERDICTS: Mapping[tuple[bool | None, ...], tuple[str, Severity]] = {
    (True, True): ("beats-noise", "pass"),
    (True, False): ("beats-noise-in-deletion", "caution"),
    (False, True): ("beats-noise-in-insertion", "caution"),
    (False, False): ("no-better-than-noise", "problem"),
    (True, None): ("beats-noise-by-deletion-alone", "pass"),
    (False, None): ("no-better-than-noise-by-deletion-alone", "problem"),
    (None, True): ("beats-noise-by-insertion-alone", "pass"),
    (None, False): ("no-better-than-noise-by-insertion-alone", "problem"),
}


def _simple_controls(view: _View) -> Iterator[Finding]:
    fixed = tuple(key for key, control in CONTROLS.items() if not control.random)
    for attribution in view.report.attributions:
        # Pixels that go one by one destroy a picture sooner than coarse patches: a map as fine as
        # that has to beat random pixels too.
        fine = attribution.card.granularity == "pixels"
        for control in (*fixed, *(("random",) if fine else ())):
            if _worse_than(view, attribution.method, control):
                yield view.finding(
                    f"no-better-than-{control}",
                    "caution",
                    _limit("controls"),
                    attribution.method,
                )


def _worse_than(view: _View, method: str, control: str) -> bool:
    """Return whether a map is better than a control on no curve, and both curves can tell."""
    return all(_no_better(view, metric, method, control) for metric in CURVES)


def _no_better(view: _View, metric: str, method: str, control: str) -> bool:
    own, other = (view.report.measurement(metric, subject) for subject in (method, control))
    if own is None or other is None or other.value is None:
        return False
    if f"{method}.beats_noise.{metric}" not in view.wording.facts:
        return False
    return not better(metric, own, other)


def _agreement(view: _View) -> Iterator[Finding]:
    mean, floor = view.value("agreement.mean_iou"), view.value("agreement.iou_floor")
    if mean is None or floor is None:
        return
    threshold = _limit("agreement", decimal(floor))
    if mean < 2 * floor:
        yield view.finding("methods-disagree", "caution", threshold)


def _rotation(view: _View) -> Iterator[Finding]:
    if "rotation.first" not in view.wording.facts:
        return
    first = view.value("rotation.first")
    several = view.report.prediction.threshold is not None
    flips = "rotation-crosses" if several else "rotation-flips"
    if first is None:
        yield view.finding("no-rotation-flips", "pass", _limit("rotation-any"))
    elif first < SMALL_ROTATION:
        yield view.finding(flips, "problem", _limit("rotation-below", degrees(SMALL_ROTATION)))
    elif first < MODERATE_ROTATION:
        threshold = _limit("rotation-below", degrees(MODERATE_ROTATION))
        yield view.finding(flips, "caution", threshold)
    else:
        threshold = _limit("rotation-none-below", degrees(MODERATE_ROTATION))
        yield view.finding(
            "rotation-crosses-late" if several else "rotation-holds", "pass", threshold
        )


def _blur(view: _View) -> Iterator[Finding]:
    blur = view.report.measurement("interpolation_blur_flip", "prediction")
    if blur is not None and blur.value:
        yield view.finding("blur-flips", "caution", _limit("blur"))


def _noise(view: _View) -> Iterator[Finding]:
    for kind in NOISES:
        first = view.value(f"noise.{kind}.first")
        if first is not None and first <= WEAK_SEVERITY:
            threshold = _limit("noise", str(WEAK_SEVERITY))
            several = view.report.prediction.threshold is not None
            yield view.finding(
                "noise-crosses" if several else "noise-flips", "caution", threshold, kind
            )


def _sensitivity(view: _View) -> Iterator[Finding]:
    for attribution in view.report.attributions:
        value = view.value(f"{attribution.method}.sensitivity")
        if value is not None and value > LARGE_SENSITIVITY:
            threshold = _limit("sensitivity", decimal(LARGE_SENSITIVITY))
            yield view.finding("sensitive-map", "caution", threshold, attribution.method)


def _self_checks(view: _View) -> Iterator[Finding]:
    for metric, fails, limit, severity in _CHECKS:
        for attribution in view.report.attributions:
            check = view.report.measurement(metric, attribution.method)
            if check is not None and check.value is not None and fails(check.value):
                threshold = _limit(metric, limit)
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


def _flat(view: _View) -> Iterator[Finding]:
    for attribution in view.report.attributions:
        if CONSTANT_MAP in attribution.notes:
            threshold = _limit("constant-map")
            yield view.finding("constant-map", "problem", threshold, attribution.method)


def _destroyed(view: _View) -> Iterator[Finding]:
    told = [(a.method, view.text(f"{a.method}.{DESTROYED}.verdict")) for a in view.attributions]
    failing = [method for method, verdict in told if verdict == "fails"]
    for method in failing:
        yield view.finding("ignores-model", "problem", _unchanged(), method)
    if not failing and "sanity.passing" in view.wording.facts:
        yield view.finding("notices-model", "pass", _unchanged())


def _unchanged() -> str:
    return _limit("unchanged", str(FAILS_FROM))


def _seeds(view: _View) -> Iterator[Finding]:
    for attribution in view.attributions:
        method = attribution.method
        if view.text(f"{method}.{SEEDS}.verdict") == "unstable":
            yield view.finding("unstable-seeds", "caution", _limit("seeds", str(STABLE)), method)


def _object(view: _View) -> Iterator[Finding]:
    for attribution in view.attributions:
        own = view.report.measurement("relevance_rank_accuracy", attribution.method)
        if own is None or own.yardstick is None or own.yardstick.p is None:
            continue
        if own.yardstick.p > SIGNIFICANT:
            yield view.finding("off-mask", "caution", _as_good(), attribution.method)


def _agnostic(view: _View) -> Iterator[Finding]:
    for attribution in view.attributions:
        if attribution.card.class_agnostic:
            threshold = _limit("class-agnostic")
            yield view.finding("class-agnostic", "note", threshold, attribution.method)


def _precision(view: _View) -> Iterator[Finding]:
    check = view.report.provenance.precision_check
    if check is not None:
        threshold = _limit("precision", str(check.least))
        key = "precision-reduced" if check.used else "precision-kept"
        yield view.finding(key, "note", threshold)


def _skipped(view: _View) -> Iterator[Finding]:
    if view.report.skipped:
        yield view.finding("skipped", "note", _limit("skipped"))


# The weightiest first, of findings as grave: what would change the whole report, what was
# predicted, whether the maps are evidence, how far to read them, and what the prediction survives.
RULES: tuple[Rule, ...] = (
    _normalised,
    _assumed,
    _margin,
    _threshold,
    _controls,
    _flat,
    _destroyed,
    _layer,
    _signal,
    _self_checks,
    _object,
    _simple_controls,
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
