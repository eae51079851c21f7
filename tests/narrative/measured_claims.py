"""What each sentence claims, read from the measurements alone: an independent second opinion.

Nothing here looks at the value of a fact. A claim is a function of the report's measurements, the
subject of the sentence and its text; it returns whether the sentence holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from reportgen.records import Measurement, Report

CURVES = ("deletion", "insertion")
SHOWN = 0.0005


@dataclass(frozen=True)
class Claim:
    """A sentence: its key, the subject it is about, its text, and the report it stands in."""

    key: str
    subject: str
    text: str
    report: Report

    @property
    def methods(self) -> list[str]:
        return [a.method for a in self.report.attributions]

    def measured(self, metric: str, subject: str = "") -> Measurement | None:
        return self.report.measurement(metric, subject or self.subject)

    def value(self, metric: str, subject: str = "") -> float | None:
        found = self.measured(metric, subject)
        return found.value if found else None

    def values(self, metric: str) -> dict[str, float]:
        found = [m for m in self.report.measurements if m.metric == metric]
        return {m.subject: m.value for m in found if m.value is not None}

    def beats(self, method: str) -> dict[str, bool]:
        """Return p <= 0.05 for each curve that has a p and whose ends differ by more than 0.05."""
        notes = [a.notes for a in self.report.attributions if a.method == method]
        found = {}
        for metric in CURVES:
            own = self.measured(metric, method)
            p = own.yardstick.p if own and own.yardstick else None
            if own is None or p is None or "constant map" in notes[0]:
                continue
            if _gained(own) > 0.05:
                found[metric] = p <= 0.05
        return found

    def curves(self) -> set[str]:
        """Return the curves that were measured of anything."""
        return {m.metric for m in self.report.measurements} & set(CURVES)

    def judged(self) -> dict[str, bool]:
        """Return, for each map judged on all curves that judge any, whether it is always better."""
        told = {method: self.beats(method) for method in self.methods}
        telling = {metric for found in told.values() for metric in found}
        return {m: all(f.values()) for m, f in told.items() if f and set(f) == telling}

    def beating(self) -> list[str]:
        return [method for method, better in self.judged().items() if better]

    def names(self, subjects: Iterable[str], text: str | None = None) -> bool:
        """Return whether a text names these methods and no other; some may be "N more"."""
        said = self.text if text is None else text
        titles = {a.method: a.card.title for a in self.report.attributions}
        wanted = list(subjects)
        named = [m for m, title in titles.items() if _word(title, said)]
        more = re.search(r"\b(\d+) more\b", said)
        return set(named) <= set(wanted) and len(named) + int(more[1] if more else 0) == len(wanted)

    def numbers(self) -> list[int]:
        return [int(number) for number in re.findall(r"(?<![\d.])\d+(?![\d.%])", self.text)]


def _gained(curve: Measurement) -> float:
    """Return how much more probability the picture has than the baseline."""
    first, last = (curve.detail[f"{end} probability"] for end in ("first", "last"))
    gained = first - last if curve.metric == "deletion" else last - first  # type: ignore[operator]
    return float(gained)  # type: ignore[arg-type]


def _word(title: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(title)}(?![\w-])", text) is not None


def _ends(value: float, interval: tuple[float, float] | None) -> tuple[float, float]:
    low, high = interval or (value, value)
    return min(low, value), max(high, value)


Ends = Mapping[str, tuple[float, tuple[float, float]]]


def _clearly_below(one: str, other: str, found: Ends) -> bool:
    (_, (_, high)), (_, (low, _)) = found[one], found[other]
    return f"{high:.3f}" != f"{low:.3f}" and high < low


def _leads(first: Iterable[str], found: Ends, sign: int) -> bool:
    """Return whether all of ``first`` are clearly below (or above) all others in the group."""
    leading = list(first)
    others = [subject for subject in found if subject not in leading]
    order = [(a, b) if sign < 0 else (b, a) for a in leading for b in others]
    return bool(others) and all(_clearly_below(a, b, found) for a, b in order)


def _curve_ends(claim: Claim, metric: str) -> dict[str, Ends]:
    """Return the AUCs with their intervals by granularity, of the maps that could be judged."""
    groups: dict[str, dict[str, tuple[float, tuple[float, float]]]] = {}
    for a in claim.report.attributions:
        own = claim.measured(metric, a.method)
        if own is None or own.value is None or metric not in claim.beats(a.method):
            continue
        drawn = "seed" in a.settings and own.interval is None
        ends = (-inf, inf) if drawn else _ends(own.value, own.interval)
        if a.card.granularity:
            groups.setdefault(a.card.granularity, {})[a.method] = (own.value, ends)
    return {kind: found for kind, found in groups.items() if len(found) > 1}


def _stable_ends(claim: Claim) -> dict[str, Ends]:
    groups: dict[str, dict[str, tuple[float, tuple[float, float]]]] = {}
    for a in claim.report.attributions:
        value, copies = (
            claim.value("sensitivity", a.method),
            claim.measured("average_sensitivity", a.method),
        )
        if value is not None and a.card.granularity:
            ends = _ends(value, copies.interval if copies else None)
            groups.setdefault(a.card.granularity, {})[a.method] = (value, ends)
    return {kind: found for kind, found in groups.items() if len(found) > 1}


def _first_in_groups(claim: Claim, groups: Mapping[str, Ends], sign: int) -> bool:
    """Return whether each "TITLES (VALUES, GRANULARITY)" of the text leads its group."""
    parts = re.findall(r"([^()]+) \(([^()]+), ([a-z ]+)\)", claim.text)
    return bool(parts) and all(
        kind in groups and _leads(_named(claim, titles), groups[kind], sign)
        for titles, _, kind in parts
    )


def _named(claim: Claim, text: str) -> list[str]:
    return [a.method for a in claim.report.attributions if _word(a.card.title, text)]


def _nobody_leads(claim: Claim, groups: Mapping[str, Ends], sign: int) -> bool:
    """Return whether no part of each group that the text names is clear of the others."""
    said = claim.text.split("granularity of ")[1].split(", it cannot")[0]
    kinds = re.split(r", | and ", said)
    return all(kind in groups and not _leaders(groups[kind], sign) for kind in kinds)


def _leaders(found: Ends, sign: int) -> list[str]:
    """Return the smallest leading part of a group, tried from the best on; none if it is all."""
    ranked = sorted(found, key=lambda subject: sign * -found[subject][0])
    for size in range(1, len(ranked)):
        if _leads(ranked[:size], found, sign):
            return ranked[:size]
    return []


def _best(metric: str, sign: int) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        groups = _curve_ends(claim, metric)
        named = _named(claim, claim.text)
        better = all(claim.beats(method).get(metric) for method in named)
        return better and _first_in_groups(claim, groups, sign)

    return holds


def _alike(metric: str, sign: int) -> Callable[[Claim], bool]:
    return lambda claim: _nobody_leads(claim, _curve_ends(claim, metric), sign)


def _supported(metric: str, expected: bool) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        return claim.names(m for m in claim.methods if claim.beats(m).get(metric) is expected)

    return holds


def evidence(**expected: bool) -> Callable[[Claim], bool]:
    """Return a claim on which curves support a map; of one curve alone it says why it is alone."""

    def holds(claim: Claim) -> bool:
        measured = "the only curve measured" in claim.text
        told = measured or "the only curve that can tell" in claim.text
        alone = measured == (len(claim.curves()) == 1) and told == (len(expected) == 1)
        return claim.beats(claim.subject) == expected and alone

    return holds


def _backwards(metric: str, expected: bool = True) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = [m for m in claim.report.measurements if m.metric == metric]
        return (_gained(found[0]) < -0.05) == expected

    return holds


def _unjudged(claim: Claim) -> bool:
    return claim.beats(claim.subject) == {} and not _is_flat(claim) and bool(claim.curves())


def _is_flat(claim: Claim) -> bool:
    return any("constant map" in a.notes for a in _own(claim))


def _own(claim: Claim) -> list[object]:
    return [a for a in claim.report.attributions if a.method == claim.subject]


def _count(judged: int | None, beating: str) -> Callable[[Claim], bool]:
    """Return a claim on how many maps were judged, and whether all, some, one or none is better."""

    def holds(claim: Claim) -> bool:
        all_judged, better = claim.judged(), claim.beating()
        fits = {
            "all": len(better) == len(all_judged),
            "some": 1 < len(better) < len(all_judged),
            "one": len(better) == 1 < len(all_judged),
            "none": not better,
        }[beating]
        number = len(all_judged) if judged is None else judged
        numbers = claim.numbers()[:2]
        told = all(n in (len(all_judged), len(better)) for n in numbers)
        return bool(claim.methods) and len(all_judged) == number > 0 and fits and told

    return holds


def _naming_beating(claim: Claim) -> bool:
    said = claim.text
    return claim.names(claim.beating(), said)


def _both(*claims: Callable[[Claim], bool]) -> Callable[[Claim], bool]:
    return lambda claim: all(one(claim) for one in claims)


def _pairs_beyond(fits: Callable[[int, int], bool]) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = [m.yardstick for m in claim.report.measurements if m.metric == "iou"]
        told = [y.p <= 0.05 for y in found if y and y.p is not None]
        numbers = claim.numbers()
        known = {len(told), sum(told)}
        return bool(told) and fits(sum(told), len(told)) and set(numbers) <= known

    return holds


def _end(choose: Callable[[Iterable[float]], float]) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = claim.values("iou")
        own = found.get(claim.subject)
        others = [value for pair, value in found.items() if pair != claim.subject]
        if own is None or not others:
            return False
        clear = all(abs(round(own, 3) - round(other, 3)) > SHOWN / 10 for other in others)
        names = claim.names(claim.subject.split("~"), claim.text.split("(")[0])
        return clear and choose([own, *others]) == own and names

    return holds


def _ninth(claim: Claim, subject: str) -> str | None:
    across, down = claim.value("centre_x", subject), claim.value("centre_y", subject)
    if across is None or down is None:
        return None
    row = "upper" if down * 3 < 1 else "middle" if down * 3 < 2 else "lower"
    column = "left" if across * 3 < 1 else "centre" if across * 3 < 2 else "right"
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def _in_place(subject: str = "") -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        place = _ninth(claim, subject or claim.subject)
        return place is not None and re.search(rf"the {place}( of|\.|$)", claim.text) is not None

    return holds


def _same_place(claim: Claim) -> bool:
    places = [place for m in claim.methods if (place := _ninth(claim, m))]
    return len(places) > 1 and len(set(places)) == 1 and f"the {places[0]}." in claim.text


def _shared(claim: Claim) -> bool:
    most = 2 * len(claim.beating()) > len(claim.methods)
    return most and bool(claim.value("consensus_area", "consensus"))


def _sole(claim: Claim) -> bool:
    return claim.beating() == [claim.subject]


def _first_severities(claim: Claim) -> dict[str, int | None]:
    found: dict[str, list[int]] = {}
    for subject, flipped in claim.values("noise_flips").items():
        kind, severity = subject.split()
        found.setdefault(kind, []).extend([int(severity)] if flipped >= 0.5 else [])
    return {kind: min(levels, default=None) for kind, levels in found.items()}


NOISES = {"gaussian": "Gaussian noise", "shot": "shot noise", "impulse": "impulse noise"}


def _severities(claim: Claim) -> bool:
    firsts = _first_severities(claim)
    said = all(
        f"{level or 'none'} under {NOISES[kind]}" in claim.text for kind, level in firsts.items()
    )
    return bool(firsts) and any(firsts.values()) and said


def _no_severity(claim: Claim) -> bool:
    firsts = _first_severities(claim)
    return bool(firsts) and not any(firsts.values())


def _flips(claim: Claim) -> dict[str, float]:
    return claim.values("rotation_flip")


def _first_turn(claim: Claim) -> bool:
    angles = _flips(claim)
    if not angles:
        return False
    ways = {"positive": "counter-clockwise", "negative": "clockwise"}
    least = min(angles.values())
    first = {ways[way] for way, angle in angles.items() if angle == least}
    turned = re.search(r"(?<!-)\b(counter-clockwise|clockwise)", claim.text)
    return f"{least:.2f} degrees" in claim.text and (turned is None or turned[1] in first)


def _verdict(metric: str, said: str) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = claim.measured(metric)
        return found is not None and found.detail.get("verdict") == said

    return holds


def _all_of(metric: str, said: str) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = [m for m in claim.report.measurements if m.metric == metric]
        return claim.names(m.subject for m in found if m.detail.get("verdict") == said)

    return holds


def _counts(claim: Claim) -> bool:
    found = [f.severity for f in claim.report.findings]
    numbers = re.findall(r"(no|\d+) (problem|caution)", claim.text)
    return len(numbers) == 2 and all(
        found.count(kind) == (0 if n == "no" else int(n))
        for n, kind in numbers  # type: ignore[arg-type]
    )


def _layer_passes(clearly: bool) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        choice = claim.report.layer
        chosen = choice.candidate(choice.chosen) if choice else None
        removal = chosen.check("removal") if chosen else None
        if choice is None or choice.source != "detected" or removal is None:
            return False
        return removal.outcome == ("passes" if clearly else "undecided")

    return holds


def _little(metric: str) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = [m.detail for m in claim.report.measurements if m.metric == metric]
        first, last = (found[0][f"{end} probability"] for end in ("first", "last"))
        return abs(first - last) <= 0.05  # type: ignore[operator,arg-type]

    return holds


def _consensus(empty: bool) -> Callable[[Claim], bool]:
    return lambda claim: (claim.value("consensus_area", "consensus") == 0) == empty


def _not_judged(claim: Claim) -> bool:
    return bool(claim.methods) and not claim.judged()


def _left(claim: Claim) -> bool:
    """Return whether the steps named are all that have the reason named."""
    reasons: dict[str, int] = {}
    for skipped in claim.report.skipped:
        reasons[skipped.reason] = reasons.get(skipped.reason, 0) + 1
    return any(r.rstrip(".") in claim.text for r in reasons)


def _none_left(claim: Claim) -> bool:
    return all(f.severity in ("note", "pass") for f in claim.report.findings)


def _wins(claim: Claim) -> bool:
    top = claim.report.prediction.top
    return claim.report.prediction.threshold is None and all(
        entry.probability <= top[0].probability for entry in top
    )


def _held(expected: bool) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = claim.report.prediction
        watched = found.contrast.first if found.contrast else found.target
        limit = found.threshold
        return limit is not None and (watched.probability >= limit) == expected

    return holds


def _labels(some: bool) -> Callable[[Claim], bool]:
    def holds(claim: Claim) -> bool:
        found = claim.report.prediction
        held = [e for e in found.top if found.threshold and e.probability >= found.threshold]
        return found.threshold is not None and bool(held) == some

    return holds


def _has_no_map(claim: Claim) -> bool:
    return not claim.methods


def _is_only_map(claim: Claim) -> bool:
    return claim.methods == [claim.subject]


def _no_turn(claim: Claim) -> bool:
    return not _flips(claim)


TOLD: Mapping[str, Callable[[Claim], bool]] = {
    "predicted": _wins,
    "labels-held": _labels(True),
    "no-label-held": _labels(False),
    "verdict": _wins,
    "verdict-held": _held(True),
    "verdict-not-held": _held(False),
    "supported": evidence(deletion=True, insertion=True),
    "supported-in-deletion": evidence(deletion=True, insertion=False),
    "supported-in-insertion": evidence(deletion=False, insertion=True),
    "unsupported": evidence(deletion=False, insertion=False),
    "supported-by-deletion": evidence(deletion=True),
    "unsupported-by-deletion": evidence(deletion=False),
    "supported-by-insertion": evidence(insertion=True),
    "unsupported-by-insertion": evidence(insertion=False),
    "unjudged": _unjudged,
    "unmeasured": lambda claim: not claim.curves() and not _is_flat(claim),
    "flat": _is_flat,
    "located": _in_place(),
    "sanity-fails": _verdict("randomised_spearman", "fails"),
    "seeds-stable": _verdict("seed_jaccard_5", "stable"),
    "seeds-unstable": _verdict("seed_jaccard_5", "unstable"),
    "no-map": _has_no_map,
    "one-map": _is_only_map,
    "pair-beyond": _pairs_beyond(lambda beyond, tested: beyond == tested == 1),
    "pair-chance": _pairs_beyond(lambda beyond, tested: beyond == 0 and tested == 1),
    "agreement-beyond": _pairs_beyond(lambda beyond, tested: beyond == tested > 1),
    "agreement-some": _pairs_beyond(lambda beyond, tested: 0 < beyond < tested),
    "agreement-chance": _pairs_beyond(lambda beyond, tested: beyond == 0 and tested > 1),
    "closest": _end(max),
    "closest-area": _end(max),
    "farthest": _end(min),
    "farthest-area": _end(min),
    "same-place": _same_place,
    "consensus": _both(_consensus(False), _in_place("consensus")),
    "no-consensus": _consensus(True),
    "little-signal-deletion": _little("deletion"),
    "little-signal-insertion": _little("insertion"),
    "deletion-curve": _backwards("deletion", expected=False),
    "deletion-rises": _backwards("deletion"),
    "insertion-falls": _backwards("insertion"),
    "best-deletion": _best("deletion", -1),
    "best-insertion": _best("insertion", 1),
    "alike-deletion": _alike("deletion", -1),
    "alike-insertion": _alike("insertion", 1),
    "supported-deletion": _supported("deletion", True),
    "unsupported-deletion": _supported("deletion", False),
    "supported-insertion": _supported("insertion", True),
    "unsupported-insertion": _supported("insertion", False),
    "sanity-failing": _all_of("randomised_spearman", "fails"),
    "sanity-passing": _all_of("randomised_spearman", "passes"),
    "rotation-flips": _first_turn,
    "rotation-crosses": _first_turn,
    "rotation-holds": _no_turn,
    "holds": _no_turn,
    "breaks": _first_turn,
    "breaks-label": _first_turn,
    "noise-flips": _severities,
    "noise-crosses": _severities,
    "noise-never-flips": _no_severity,
    "noise-never-crosses": _no_severity,
    "sensitivity-least": lambda claim: _first_in_groups(claim, _stable_ends(claim), -1),
    "sensitivity-alike": lambda claim: _nobody_leads(claim, _stable_ends(claim), -1),
    "all-maps": _count(None, "all"),
    "both-maps": _both(_count(2, "all"), _naming_beating),
    "neither-map": _count(2, "none"),
    "some-maps": _both(_count(None, "some"), _naming_beating),
    "one-of-maps": _both(_count(None, "one"), _naming_beating),
    "no-maps": _count(None, "none"),
    "single-map": _both(_count(1, "all"), _naming_beating),
    "no-single-map": _count(1, "none"),
    "not-judged": _not_judged,
    "some-unjudged": lambda claim: claim.names(set(claim.methods) - set(claim.judged())),
    "no-evidence": _has_no_map,
    "shared-place": _both(_shared, _in_place("consensus")),
    "evidence-place": _both(_sole, _in_place()),
    "distrust": _counts,
    "distrust-nothing": _both(_counts, _none_left),
    "left-out": _left,
    "layer-compared": _layer_passes(True),
    "layer-unclear": _layer_passes(False),
    "line-predicted": _wins,
    "line-held": _held(True),
    "line-not-held": _held(False),
    "line-all-maps": _count(None, "all"),
    "line-both-maps": _both(_count(2, "all"), _naming_beating),
    "line-single-map": _both(_count(1, "all"), _naming_beating),
    "line-some-maps": _count(None, "some"),
    "line-one-of-maps": _both(_count(None, "one"), _naming_beating),
    "line-no-maps": _count(None, "none"),
    "line-not-judged": _not_judged,
    "line-no-evidence": _has_no_map,
    "line-nothing": _none_left,
}
# Sentences that state numbers and names one by one, and compare nothing.
PLAIN = frozenset(
    {
        "empty", "reasons", "runner-up", "explained-contrast", "explained-label",
        "explained-other", "seen", "seen-whole", "marked", "head", "assumed", "predictions-only",
        "layer-runner-up", "layer-last", "layer-named", "layer-failing", "layer-shared", "made",
        "made-from-layer", "on-mask", "pair", "pair-order", "agreement", "insertion-curve",
        "insertion-curve-alone", "controls", "controls-deletion", "controls-insertion",
        "controls-range", "rotation-other", "rotation-one-way", "noise", "noise-watched",
        "sensitivities", "sensitivity", "other-contrast", "other-class", "left-out-more",
        "check-completeness_gap", "check-surrogate_r2", "check-additivity_gap",
        "check-sampling_error", "check-component_share", "check-largest_weight",
        "check-placeless_share", "check-negative_share", "made-lime", "made-shap",
        "made-integrated-gradients", "made-saliency", "line-contrast", "line-other",
        "line-problem", "line-caution",
    }
)  # fmt: skip
