"""No sentence contradicts the measurements, the other sentences or the table beside it.

Random reports are told by the real code. What each sentence claims is then read from the
measurements by ``measured_claims``, which knows nothing of the code that chose the sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest
from measured_claims import CURVES, PLAIN, TOLD, Claim, evidence
from random_reports import random_report
from told_reports import TITLES, curve, everything, noise_curves, pair, report_of, text

from reportgen.records import Fact, Finding, Measurement, Report, Sentence
from reportgen.render import tables
from reportgen.render.document import Cell, Table
from reportgen.render.figures import Source
from reportgen.render.html import to_html
from reportgen.render.lookup import index_facts
from reportgen.wording import read_wording

REPORTS = 200
_PLACE = re.compile(r"\{([^{}?]+)\??\}")
_NUMBER = re.compile(r"(?<![\w.])([<>]?)(-?\d[\d,]*(?:\.\d+)?)(%?)")


@cache
def told(seed: int) -> Report:
    return random_report(seed)


@cache
def wordings() -> dict[str, re.Pattern[str]]:
    """Return, for each sentence, the pattern of the sentences that it makes."""
    found = read_wording("sections.toml", {}).sentences
    return {key: re.compile(_form(template)) for key, template in found.items()}


def _form(template: str) -> str:
    """Return the expression of a template whose places are filled with the names of facts."""
    plain = re.escape(_PLACE.sub(lambda match: f"{{{match[1]}}}", template))
    first = plain.replace("@", "(?P<subject>[^{}]+?)", 1)
    return first.replace("@", "(?P=subject)")


def key_of(sentence: Sentence) -> tuple[str, str]:
    """Return the key and the subject of a sentence; of a finding's short sentence, nothing."""
    return _key_of(sentence.pattern)


@cache
def _key_of(pattern: str) -> tuple[str, str]:
    for key, form in wordings().items():
        found = form.fullmatch(pattern)
        if found:
            return key, found.groupdict().get("subject") or ""
    return "", ""


def sentences(report: Report) -> Iterator[tuple[str, Sentence]]:
    for section in report.sections:
        for sentence in section.sentences:
            yield section.key, sentence


def clauses(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of each clause of the verdict."""
    assert report.verdict is not None
    line, shown = report.verdict.pattern, report.verdict.text
    for key, template in read_wording("sections.toml", {}).sentences.items():
        if key.startswith("line-") and _PLACE.sub(lambda m: f"{{{m[1]}}}", template) in line:
            yield key, shown


def complaints(report: Report) -> list[str]:
    """Return what is wrong in a report, by the measurements."""
    return [
        *_unsound(report),
        *_false(report),
        *_misfound(report),
        *_beside_tables(report),
    ]


def _false(report: Report) -> Iterator[str]:
    claims = [
        Claim(key, subject or section, sentence.text, report)
        for section, sentence in sentences(report)
        for key, subject in [key_of(sentence)]
    ]
    claims += [Claim(key, "", _clause(key, shown), report) for key, shown in clauses(report)]
    for claim in claims:
        if claim.key in TOLD and not TOLD[claim.key](claim):
            yield f"{claim.key}: {claim.text}"


def _clause(key: str, shown: str) -> str:
    """Return the second clause of a verdict, or all of it: what it says of maps stands there."""
    return shown.split("; ")[1].split(". ")[0] if "; " in shown else shown


def _unsound(report: Report) -> Iterator[str]:
    """Yield each sentence whose numbers are not those of its facts, or facts not measured so."""
    facts = {fact.name: fact for fact in report.facts}
    said = [sentence for _, sentence in sentences(report)]
    said += [f.brief for f in report.findings if f.brief] + [_line(report)]
    for sentence in said:
        if _PLACE.sub(lambda m: facts[m[1]].text, sentence.pattern) != sentence.text:
            yield f"not its facts: {sentence.text}"
        if re.search(r"\d", _PLACE.sub("", sentence.pattern)):
            yield f"a number of its own: {sentence.pattern}"
        # What says that there is nothing rests on the counts.
        named = set(_PLACE.findall(sentence.pattern)) or {"report.methods", "report.measurements"}
        if named != set(sentence.facts):
            yield f"other facts: {sentence.text}"
    content = json.loads(report.model_dump_json())
    for fact in report.facts:
        if not _is_as_measured(fact, content):
            yield f"fact {fact.name}: {fact.text}"


def _line(report: Report) -> Sentence:
    assert report.verdict is not None
    return report.verdict


def _is_as_measured(fact: Fact, content: Any) -> bool:
    """Return whether a fact whose source is a number has that number, rounded, in its text."""
    value = content
    for part in fact.source.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        value = value[int(part)] if isinstance(value, list) else value[part]
    numbers = [isinstance(n, int | float) and not isinstance(n, bool) for n in (value, fact.value)]
    if not all(numbers):
        return True
    if fact.name.endswith((".place", ".rank")):
        return fact.value == value and _stands_so(fact, content)
    return fact.value == value and rounds(fact.text, value)


def _stands_so(fact: Fact, content: Any) -> bool:
    """Return whether "better than N of M" is what the yardstick's p says."""
    yardstick = content["measurements"][int(fact.source.split("/")[2])]["yardstick"]
    if yardstick["p"] is None:
        return True
    maps = yardstick["maps"]
    beaten = maps + 1 - round(yardstick["p"] * (maps + 1))
    counts = {"all": maps, "none": 0}
    found = re.search(r"(all|none|\d+)(?: of)? (\d+)?", fact.text)
    return found is not None and int(counts.get(found[1], found[1])) == beaten


def rounds(text: str, value: float) -> bool:
    """Return whether the first number of a text is ``value``, rounded as it is written."""
    found = _NUMBER.search(text)
    if found is None:
        return False
    sign, digits, share = found.groups()
    unit = 10.0 ** -len(digits.partition(".")[2]) * (0.01 if share else 1)
    number = float(digits.replace(",", "")) * (0.01 if share else 1)
    if "levels" in text:
        value *= 255
    if sign:
        return value < number if sign == "<" else value > number
    return abs(number - value) <= unit / 2 + 1e-9 + 1e-3 * abs(value) * ("levels" in text)


def _misfound(report: Report) -> Iterator[str]:
    """Yield each finding that does not hold, and each short sentence that names others."""
    for finding in report.findings:
        claim = Claim(finding.rule, finding.subject, finding.statement, report)
        if finding.rule in FOUND and not FOUND[finding.rule](claim):
            yield f"{finding.rule}: {finding.statement}"
        if finding.brief and finding.subject in claim.methods:
            same = [f.subject for f in report.findings if f.rule == finding.rule]
            if not claim.names(same, finding.brief.text):
                yield f"{finding.rule}: {finding.brief.text}"
    judged = [f.subject for f in report.findings if f.rule.startswith(CURVE_RULES)]
    claim = Claim("", "", "", report)
    if sorted(judged) != sorted(m for m in claim.methods if claim.beats(m)):
        yield "not every map that a curve judges has its finding"


CURVE_RULES = ("beats-noise", "no-better-than-noise")


def _above(metric: str, limit: float) -> Callable[[Claim], bool]:
    return lambda claim: (claim.value(metric) or 0) > limit


def _margin(claim: Claim) -> bool:
    first, second = claim.report.prediction.top[:2]
    return first.probability - second.probability < 0.1


def _no_better(control: str, *metrics: str) -> Callable[[Claim], bool]:
    """Return a claim that by these curves, all that compare the two, a map beats no control."""

    def holds(claim: Claim) -> bool:
        known = [m for m in CURVES if m in claim.beats(claim.subject)]
        if [m for m in known if claim.value(m, control) is not None] != list(metrics):
            return False
        for metric in metrics:
            sign = 1 if metric == "deletion" else -1
            own, other = claim.measured(metric), claim.measured(metric, control)
            assert own is not None and other is not None
            assert own.value is not None and other.value is not None
            low, high = other.interval or (other.value, other.value)
            mine = own.interval or (own.value, own.value)
            end, bound = (max(mine), min(low, other.value))
            if sign < 0:
                end, bound = -min(mine), -max(high, other.value)
            if end < bound and round(sign * own.value, 3) < round(sign * other.value, 3):
                return False
        return True

    return holds


def _disagree(claim: Claim) -> bool:
    found = claim.values("iou")
    return sum(found.values()) / len(found) < 2 / 9


def _off_mask(claim: Claim) -> bool:
    own = claim.measured("relevance_rank_accuracy")
    return own is not None and own.yardstick is not None and (own.yardstick.p or 0) > 0.05


FOUND: dict[str, Callable[[Claim], bool]] = {
    "beats-noise": evidence(deletion=True, insertion=True),
    "beats-noise-in-deletion": evidence(deletion=True, insertion=False),
    "beats-noise-in-insertion": evidence(deletion=False, insertion=True),
    "no-better-than-noise": evidence(deletion=False, insertion=False),
    "beats-noise-by-deletion-alone": evidence(deletion=True),
    "no-better-than-noise-by-deletion-alone": evidence(deletion=False),
    "beats-noise-by-insertion-alone": evidence(insertion=True),
    "no-better-than-noise-by-insertion-alone": evidence(insertion=False),
    **{f"no-better-than-{c}": _no_better(c, *CURVES) for c in ("centre", "edges", "random")},
    **{
        f"no-better-than-{control}-by-{metric}-alone": _no_better(control, metric)
        for control in ("centre", "edges", "random")
        for metric in CURVES
    },
    "methods-disagree": _disagree,
    "low-margin": _margin,
    "off-mask": _off_mask,
    "sensitive-map": _above("sensitivity", 0.5),
    "completeness_gap-fails": _above("completeness_gap", 0.05),
    "additivity_gap-fails": _above("additivity_gap", 0.01),
    "ignores-model": TOLD["sanity-fails"],
    "notices-model": TOLD["sanity-passing"],
    "unstable-seeds": TOLD["seeds-unstable"],
    "constant-map": TOLD["flat"],
    "rotation-flips": TOLD["rotation-flips"],
    "rotation-crosses": TOLD["rotation-crosses"],
    "no-rotation-flips": TOLD["rotation-holds"],
    "little-signal-deletion": TOLD["little-signal-deletion"],
    "little-signal-insertion": TOLD["little-signal-insertion"],
    "deletion-rises": TOLD["deletion-rises"],
    "insertion-falls": TOLD["insertion-falls"],
}


def _beside_tables(report: Report) -> Iterator[str]:
    """Yield each cell whose text is not what the sentences that rest on its fact say."""
    cells = {cell.fact: cell.text for cell in _cells(report) if cell.fact}
    for _, sentence in sentences(report):
        for name in sentence.facts:
            if name in cells and cells[name] not in sentence.text:
                yield f"{name} is {cells[name]} in its table: {sentence.text}"


def _cells(report: Report) -> Iterator[Cell]:
    source = Source(report, {}, index_facts(report))
    found: list[Table | None] = [
        tables.top_classes(source), tables.identity(source), tables.comparison(source),
        tables.fidelity(source), tables.rotation(source), tables.noise(source),
    ]  # fmt: skip
    for table in found:
        yield from (cell for row in (table.rows if table else ()) for cell in row.cells)
    for attribution in report.attributions:
        yield from (stated.cell for stated in tables.strip(source, attribution).quantities)


@pytest.mark.parametrize("start", range(0, REPORTS, 20))
def test_nothing_in_a_random_report_contradicts_its_measurements(start: int) -> None:
    for seed in range(start, start + 20):
        assert complaints(told(seed)) == []


def test_every_sentence_is_read_here_or_compares_nothing() -> None:
    written = set(read_wording("sections.toml", {}).sentences)
    assert written == {*TOLD, *PLAIN}
    assert not set(TOLD) & PLAIN


def test_every_claim_is_met_in_the_random_reports() -> None:
    met = {key for seed in range(REPORTS) for key in _keys(told(seed))}
    rare = {"pair-beyond", "pair-chance", "line-single-map", "insertion-curve-alone"}
    clean = {"distrust-nothing", "line-nothing"}
    assert set(TOLD) - met <= rare | clean


def _keys(report: Report) -> Iterator[str]:
    yield from (key_of(sentence)[0] for _, sentence in sentences(report))
    yield from (key for key, _ in clauses(report))


def test_every_sentence_has_facts_and_every_one_is_there() -> None:
    for seed in range(REPORTS):
        report = told(seed)
        names = {fact.name for fact in report.facts}
        for _, sentence in sentences(report):
            assert sentence.facts
            assert set(sentence.facts) <= names
        assert report.verdict is not None and report.verdict.facts


def test_every_mark_leads_to_the_row_of_its_fact() -> None:
    for report in (report_of(*everything(), methods=tuple(TITLES)), told(3)):
        page = to_html(report, {})
        rows = set(re.findall(r'id="(fact-[^"]+)"', page))
        marks = re.findall(r'<sup class="marks">(.*?)</sup>', page, re.DOTALL)
        links = [link for found in marks for link in re.findall(r'href="#([^"]+)"', found)]
        assert links
        assert set(links) <= rows
        assert "not in this report" not in page
        line = page.split('<p class="line">')[1].split("</p>")[0]
        assert len(re.findall("href=", line)) == len(_line(report).facts)


def test_the_verdict_is_one_short_line() -> None:
    for seed in range(REPORTS):
        verdict = _line(told(seed)).text
        assert "\n" not in verdict
        assert verdict.endswith(".")
        assert len(verdict.split()) <= 36


# Planted errors: each must be noticed.


def replaced(report: Report, old: Sentence, new: Sentence) -> Report:
    sections = tuple(
        s.model_copy(update={"sentences": tuple(new if x is old else x for x in s.sentences)})
        for s in report.sections
    )
    return report.model_copy(update={"sections": sections})


@cache
def planted() -> dict[str, list[bool]]:
    """Return, for each sentence, whether it is denied wherever it could stand and does not."""
    denied: dict[str, list[bool]] = {}
    for seed in range(80):
        report = told(seed)
        already = {key_of(sentence) for _, sentence in sentences(report)}
        wording = read_wording("sections.toml", {fact.name: fact for fact in report.facts})
        pairs = [m.subject for m in report.measurements if m.metric == "iou"]
        for subject in ("", *(a.method for a in report.attributions), *pairs[:3]):
            for key in set(TOLD) - {found[0] for found in already if found[1] == subject}:
                if wording.has(key, subject) and bool(subject) == ("@" in wording.sentences[key]):
                    words = wording.sentence(key, subject).text
                    holds = TOLD[key](Claim(key, subject, words, report))
                    denied.setdefault(key, []).append(not holds)
    return denied


# What a report says wherever it has the facts, so that it cannot be planted: its measurements are
# changed instead.
FIXED = {
    "supported-deletion", "unsupported-deletion", "supported-insertion", "unsupported-insertion",
    "located", "sanity-failing", "sanity-passing", "same-place", "distrust", "left-out",
    "some-unjudged", "labels-held", "seeds-unstable", "rotation-flips", "rotation-crosses",
    "breaks", "breaks-label", "best-deletion", "best-insertion", "alike-deletion",
    "alike-insertion", "sensitivity-least", "sensitivity-alike",
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(k for k in set(TOLD) - FIXED if not k.startswith("line-")))
def test_a_sentence_that_does_not_hold_is_noticed(key: str) -> None:
    denied = planted()[key]
    assert sum(denied) >= len(denied) / 2


CHANGES: dict[str, Callable[[Measurement], dict[str, Any]]] = {
    "p": lambda m: {"yardstick": m.yardstick and m.yardstick.model_copy(update={"p": _turned(m)})},
    "value": lambda m: {"value": None if m.value is None else m.value / 2 + 0.3},
    "interval": lambda m: {"interval": (-9.0, 9.0)},
    "verdict": lambda m: {"detail": {**m.detail, "verdict": "gone"}},
    "best": lambda m: {"value": _best(m), "interval": None},
    "same ends": lambda m: {"detail": {**m.detail, "last probability": _first(m)}},
    "far ends": lambda m: {"detail": {**m.detail, "last probability": _first(m) + 9.0}},
}


def _turned(m: Measurement) -> float | None:
    p = m.yardstick.p if m.yardstick else None
    return None if p is None else 0.5 if p <= 0.05 else 0.01


def _best(m: Measurement) -> float | None:
    """Return the best number of a map; those of control maps stay."""
    controls = ("edges", "centre", "random", "smooth-random")
    return m.value if m.subject in controls else float(m.metric == "insertion")


def _first(m: Measurement) -> Any:
    return m.detail.get("first probability", 0.0)


def changed(report: Report, change: str) -> Report:
    found = [m.model_copy(update=CHANGES[change](m)) for m in report.measurements]
    return report.model_copy(update={"measurements": tuple(found)})


@pytest.mark.parametrize("key", sorted(FIXED))
def test_a_measurement_that_says_otherwise_is_noticed(key: str) -> None:
    for seed in range(REPORTS):
        report = told(seed)
        if any(key == key_of(sentence)[0] for _, sentence in sentences(report)):
            others = [changed(report, change) for change in CHANGES]
            if any(_starts(_false(other), key) for other in (*others, _otherwise(report))):
                return
    pytest.fail(f"nothing that was changed was noticed by '{key}'")


def _otherwise(report: Report) -> Report:
    """Return the report with another threshold, and without its findings and skipped steps."""
    limit = None if report.prediction.threshold else 0.99
    prediction = report.prediction.model_copy(update={"threshold": limit})
    return report.model_copy(update={"prediction": prediction, "findings": (), "skipped": ()})


def test_a_comparison_that_its_own_table_denies_is_noticed() -> None:
    """A source document called the agreement lowest where its table has the highest values."""
    overlaps = {("gradcam", "shap"): 0.32, ("gradcam", "lime"): 0.64, ("shap", "lime"): 0.61}
    pairs = [m for (a, b), value in overlaps.items() for m in pair(a, b, value, 0.5)]
    report = report_of(*pairs, methods=("gradcam", "shap", "lime"))
    assert complaints(report) == []
    said = {key_of(s)[0]: s for _, s in sentences(report)}
    facts = {fact.name: fact for fact in report.facts}
    wrong = read_wording("sections.toml", facts).sentence("farthest", "gradcam~lime")
    assert "Grad-CAM and LIME agree least (0.640)" in wrong.text
    (complaint,) = complaints(replaced(report, said["farthest"], wrong))
    assert complaint.startswith("farthest:")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.model_copy(update={"text": s.text.replace("0.1", "0.2")}),
        lambda s: s.model_copy(update={"text": s.text + " 7", "pattern": s.pattern + " 7"}),
        lambda s: s.model_copy(update={"facts": s.facts[1:]}),
    ],
)
def test_a_sentence_with_other_numbers_than_its_facts_is_noticed(
    spoil: Callable[[Sentence], Sentence],
) -> None:
    report = report_of(curve("deletion", "gradcam", 0.1), *noise_curves())
    sentence = report.sections[1].sentences[0]
    assert complaints(report) == []
    assert complaints(replaced(report, sentence, spoil(sentence)))


def test_a_fact_with_another_number_than_its_measurement_is_noticed() -> None:
    report = report_of(curve("deletion", "gradcam", 0.1), *noise_curves())
    for old, new in (({"text": "0.100"}, "0.101"), ({"value": 0.1}, 0.2)):
        (field,) = old
        facts = tuple(
            f.model_copy(update={field: new}) if f.name == "gradcam.deletion_auc" else f
            for f in report.facts
        )
        assert complaints(report.model_copy(update={"facts": facts}))


def test_a_finding_that_does_not_hold_is_noticed() -> None:
    unnoticed = set(FOUND)
    for seed in range(REPORTS):
        report = told(seed)
        for finding in report.findings:
            if finding.rule in unnoticed and _some_change_is_noticed(report, finding):
                unnoticed.discard(finding.rule)
    assert unnoticed <= {"low-margin", "constant-map"}


def _some_change_is_noticed(report: Report, finding: Finding) -> bool:
    holds, subject = FOUND[finding.rule], finding.subject
    return not all(
        holds(Claim(finding.rule, subject, finding.statement, changed(report, change)))
        for change in CHANGES
    )


def _starts(complaints: Iterable[str], key: str) -> bool:
    return any(complaint.startswith(f"{key}:") for complaint in complaints)


def test_the_verdict_follows_the_maps_and_the_findings() -> None:
    good = report_of(curve("deletion", "gradcam", 0.1), *noise_curves())
    assert _line(good).text == (
        "Prediction “newt” (0.7000); the one map judged (Grad-CAM) does better than smooth "
        "random ones; no rule found a problem or a caution."
    )
    poor = report_of(curve("deletion", "gradcam", 0.5), *noise_curves())
    assert _line(poor).text == (
        "Prediction “newt” (0.7000); no map does better than smooth random ones, so none is "
        "evidence."
    )
    assert "so where the model looked cannot be concluded" in text(poor, "interpretation")
