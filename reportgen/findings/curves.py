"""Rules on deletion and insertion: what these can tell, and which maps they support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reportgen.facts import CURVES, LITTLE_CHANGE, SIGNIFICANT, backwards, better, decimal, percent
from reportgen.findings.view import View, threshold_of
from reportgen.perturbation.controls import CONTROLS
from reportgen.records import Finding, Severity

# The rule for a curve whose probability is higher on the baseline than on the picture.
_BACKWARDS: Mapping[str, str] = {"deletion": "deletion-rises", "insertion": "insertion-falls"}


def signal(view: View) -> Iterator[Finding]:
    """Yield each curve that changes the probability too little, or the wrong way, to tell."""
    for metric in CURVES:
        change = view.value(f"{metric}.change")
        if change is None:
            continue
        if change <= LITTLE_CHANGE:
            threshold = threshold_of("little-signal", decimal(LITTLE_CHANGE))
            yield view.finding(f"little-signal-{metric}", "caution", threshold)
        elif backwards(view.report, metric):
            threshold = threshold_of("backwards", decimal(LITTLE_CHANGE))
            yield view.finding(_BACKWARDS[metric], "caution", threshold)


def controls(view: View) -> Iterator[Finding]:
    """Yield for each map whether it does better than smooth random maps."""
    for attribution in view.report.attributions:
        method = attribution.method
        facts = [view.wording.facts.get(f"{method}.beats_noise.{metric}") for metric in CURVES]
        better = tuple(None if fact is None else bool(fact.value) for fact in facts)
        if better in VERDICTS:
            key, severity = VERDICTS[better]
            yield view.finding(key, severity, as_good(), method)


def as_good() -> str:
    """Return in words what a map that does better than smooth random maps has to reach."""
    return threshold_of("as-good", percent(SIGNIFICANT))


# Whether a map is better in deletion and in insertion; None where that curve cannot tell.
VERDICTS: Mapping[tuple[bool | None, ...], tuple[str, Severity]] = {
    (True, True): ("beats-noise", "pass"),
    (True, False): ("beats-noise-in-deletion", "caution"),
    (False, True): ("beats-noise-in-insertion", "caution"),
    (False, False): ("no-better-than-noise", "problem"),
    (True, None): ("beats-noise-by-deletion-alone", "pass"),
    (False, None): ("no-better-than-noise-by-deletion-alone", "problem"),
    (None, True): ("beats-noise-by-insertion-alone", "pass"),
    (None, False): ("no-better-than-noise-by-insertion-alone", "problem"),
}


def simple_controls(view: View) -> Iterator[Finding]:
    """Yield each map that is better than a simple control on none of the curves that can tell."""
    fixed = tuple(key for key, control in CONTROLS.items() if not control.random)
    for attribution in view.report.attributions:
        # Pixels that go one by one destroy a picture sooner than coarse patches: a map as fine as
        # that has to beat random pixels too.
        fine = attribution.card.granularity == "pixels"
        for control in (*fixed, *(("random",) if fine else ())):
            yield from _beside(view, attribution.method, control)


def _beside(view: View, method: str, control: str) -> Iterator[Finding]:
    """Yield that a map is no better than a control, by all curves that can compare the two."""
    told = {metric: _better(view, metric, method, control) for metric in CURVES}
    known = [metric for metric, better in told.items() if better is not None]
    if not known or any(told[metric] for metric in known):
        return
    alone = f"-by-{known[0]}-alone" if len(known) == 1 else ""
    threshold = threshold_of("control-alone" if alone else "controls")
    yield view.finding(f"no-better-than-{control}{alone}", "caution", threshold, method)


def _better(view: View, metric: str, method: str, control: str) -> bool | None:
    """Return whether a map is better than a control on a curve; None where that cannot tell."""
    own, other = (view.report.measurement(metric, subject) for subject in (method, control))
    if own is None or other is None or other.value is None:
        return None
    if f"{method}.beats_noise.{metric}" not in view.wording.facts:
        return None
    return better(metric, own, other)
