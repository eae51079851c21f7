"""No sentence of a survey contradicts the reports that it is made of, or the table beside it.

Surveys of random reports are told by the real code. What each sentence claims is then counted again
from the reports, by code that knows nothing of the survey's totals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from random import Random
from statistics import fmean

import pytest
from measured_claims import Claim
from random_reports import random_report
from scipy.stats import wilcoxon

from reportgen.records import Report, Run
from reportgen.render import survey_text
from reportgen.render.survey_html import to_survey_html
from reportgen.render.survey_numbers import numbers_of
from reportgen.surveys.records import Comparison, Entry, Survey
from reportgen.surveys.survey import survey_of
from reportgen.surveys.tally import Tally, entry_of

SURVEYS = 24
POOL = 40
RUN = Run(created="2026-01-01T00:00:00+00:00", seconds={"total": 1.0})

Places = dict[tuple[int, str], Report | None]


@dataclass(frozen=True)
class Case:
    """A survey, and the reports it is made of by picture and model; None where one failed."""

    survey: Survey
    places: Places

    @property
    def reports(self) -> list[Report]:
        return [report for report in self.places.values() if report]

    @property
    def pictures(self) -> set[int]:
        return {number for number, _ in self.places}

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(model for _, model in self.places))

    def explained(self) -> set[int]:
        return {number for (number, _), report in self.places.items() if report}

    def found(self, severity: str) -> list[int]:
        """Return how many findings of a severity each report has."""
        return [sum(f.severity == severity for f in r.findings) for r in self.reports]

    def judged(self) -> list[dict[str, bool]]:
        return [Claim("", "", "", report).judged() for report in self.reports]

    def compared(self, between: str) -> list[float | None]:
        return [one.p_adjusted for one in self.survey.comparisons if one.between == between]


@cache
def told(seed: int) -> Report:
    return random_report(seed)


@cache
def poor() -> Sequence[int]:
    """Return the seeds of reports of which maps are judged, and none is better than chance."""
    judged = {seed: Claim("", "", "", told(seed)).judged() for seed in range(POOL)}
    return [seed for seed, maps in judged.items() if maps and not any(maps.values())]


def _settled(lot: Random, report: Report) -> Report:
    """Return the report with one number measured under other settings, now and then."""
    settings = {"draws": lot.choice((5, 5, 5, 10))}
    measurements = [
        m.model_copy(update={"settings": settings}) if m.metric == "sensitivity" else m
        for m in report.measurements
    ]
    return report.model_copy(update={"measurements": tuple(measurements)})


@cache
def case(seed: int) -> Case:
    """Return the survey of a seed: pictures and models of random reports, some of which failed."""
    lot = Random(seed)
    models = ["first.pt", "second.pt", "third.pt"][: lot.choice((1, 1, 2, 3))]
    pool = poor() if lot.random() < 0.2 else range(POOL)
    places: Places = {}
    for number in range(1, lot.choice((1, 2, 3, 6, 7, 8)) + 1):
        for model in models:
            failed = lot.random() < 0.15 and places
            places[number, model] = None if failed else _settled(lot, told(lot.choice(pool)))
    return Case(_survey(places, lot.choice((0, 0, 1, 5))), places)


def _survey(places: Places, passed_over: int) -> Survey:
    tally = Tally()
    for (number, model), report in places.items():
        place = Entry(number=number, image="x.png", model=model)
        if report:
            lies = place.model_copy(update={"folder": f"images/{number:04d}-x/{model}"})
            tally.add(entry_of(lies, report), report)
        else:
            tally.fail(place.model_copy(update={"reason": "It is broken."}))
    return survey_of(tally, passed_over, RUN)


def said(one: Case) -> Iterator[str]:
    numbers = numbers_of(one.survey)
    yield survey_text.verdict(numbers).text
    parts = ("summary", "differences", "doubtful", "medians")
    yield from (told.text for part in parts for told in getattr(survey_text, part)(numbers))


def _reports(one: Case, made: int, of: int, pictures: int, models: int) -> bool:
    there = (len(one.reports), len(one.places), len(one.pictures), len(one.models))
    return there == (made, of, pictures, models)


def _maps(one: Case, better: int, judged: int, evident: int, of: int) -> bool:
    found = one.judged()
    counts = [sum(maps.values()) for maps in found]
    there = (sum(counts), sum(map(len, found)), sum(map(bool, counts)), len(one.reports))
    return there == (better, judged, evident, of)


def _no_maps(one: Case, judged: int) -> bool:
    found = one.judged()
    return sum(map(len, found)) == judged > 0 and not any(any(maps.values()) for maps in found)


def _findings(one: Case, problems: int, cautions: int) -> bool:
    return (sum(one.found("problem")), sum(one.found("caution"))) == (problems, cautions)


def _troubled(one: Case, troubled: int, of: int) -> bool:
    return (sum(map(bool, one.found("problem"))), len(one.reports)) == (troubled, of)


def _scope(one: Case, explained: int, models: int, methods: int) -> bool:
    keys = {a.method for report in one.reports for a in report.attributions}
    return (len(one.explained()), len(one.models), len(keys)) == (explained, models, methods)


def _lost(one: Case, lost: int, of: int) -> bool:
    return (len(one.pictures - one.explained()), len(one.pictures)) == (lost, of)


def _further(one: Case, further: int, of: int) -> bool:
    known = one.explained()
    missing = [n for (n, _), report in one.places.items() if report is None and n in known]
    return (len(missing), len(one.places)) == (further, of)


def _same(one: Case, first: str, second: str, same: int, of: int) -> bool:
    pairs = [
        (one.places[number, first], one.places[number, second]) for number in sorted(one.pictures)
    ]
    labels = [[r.prediction.target.label for r in pair if r] for pair in pairs]
    both = [found for found in labels if len(found) == 2]
    return (sum(a == b for a, b in both), len(both)) == (same, of)


def _tested(one: Case, tested: int, made: int, between: str, clear: int, sizes: int | str) -> bool:
    found = one.compared(between)
    known = [p for p in found if p is not None]
    there = (len(known), len(found), sum(p <= 0.05 for p in known))
    parts = sum(int(size.replace(",", "")) for size in re.findall(r"[\d,]*\d", str(sizes)))
    return there == (tested, made, clear) and parts == tested


def _untested(one: Case, between: str) -> bool:
    found = one.compared(between)
    return bool(found) and set(found) == {None}


def _few(one: Case, few: int, of: int) -> bool:
    groups = [[c for c in one.survey.comparisons if c.between == b] for b in ("methods", "models")]
    counts = [
        (sum(c.pictures < 6 and not c.note.startswith("not") for c in g), len(g)) for g in groups
    ]
    return (few, of) in counts


def _out_of_reach(
    one: Case, number: int, of: int, between: str, most: int, together: int, needed: int
) -> bool:
    """Return whether the smallest p that scipy gives for as many differences stays too large."""
    made = [c for c in one.survey.comparisons if c.between == between]
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for c in made:
        if c.p is not None or c.note == "too few pictures for a test":
            key = (c.within,) if between == "methods" else (c.first, c.second)
            groups.setdefault(key, []).append(c)
    beyond = {key: [c for c in group if not _reaches(c, group)] for key, group in groups.items()}
    found = [c for group in beyond.values() for c in group]
    size = max(len(groups[key]) for key, group in beyond.items() if group)
    enough = [_least(n) * size <= 0.05 for n in (needed, needed - 1)]
    there = (len(found), len(made), max(c.pictures for c in found), size, enough)
    return there == (number, of, most, together, [True, False])


def _reaches(one: Comparison, group: list[Comparison]) -> bool:
    """Return whether a comparison is clear where every tested one of its group is most clear."""
    tested = sorted(_least(c.pictures) for c in group if c.p is not None)
    if one.p is None:
        return False
    before = tested[: tested.index(_least(one.pictures)) + tested.count(_least(one.pictures))]
    return all(p * (len(tested) - place) <= 0.05 for place, p in enumerate(before))


@cache
def _least(count: int) -> float:
    return float(wilcoxon(range(1, count + 1)).pvalue) if count else 1.0


def _doubtful(one: Case, number: int) -> bool:
    return len(one.survey.doubts) == number


def _is_named(one: Case) -> bool:
    """Return whether the picture of least overlap has the lowest mean IoU of all pairs."""
    for named in (n for n in one.survey.named if (n.rule, n.rank) == ("disagreement", 1)):
        means: dict[int, float] = {}
        for (number, model), report in one.places.items():
            if report and model == named.model:
                keys = [a.method for a in report.attributions]
                every = {a.method for r in one.reports for a in r.attributions}
                pairs = {f"{a}~{b}" for a, b in combinations([*keys, *every], 2)}
                overlaps = [
                    m.value
                    for m in report.measurements
                    if m.metric == "iou" and m.subject in pairs and m.value is not None
                ]
                means |= {number: fmean(overlaps)} if overlaps else {}
        if not means or abs(min(means.values()) - named.value) > 1e-12:
            return False
    return True


COUNT = r"(no|[\d,]*\d)"
CLAIMS: dict[str, Callable[..., bool]] = {
    rf"^{COUNT} of {COUNT} pictures explained;": lambda one, a, b: (
        (len(one.explained()), len(one.pictures)) == (a, b)
    ),
    rf"^{COUNT} of {COUNT} reports made, of {COUNT} pictures? under {COUNT} models?;": _reports,
    rf"better than smooth random maps: {COUNT} of {COUNT} maps judged, "
    rf"at least one in {COUNT} of {COUNT} reports;": _maps,
    rf"no map does better than smooth random ones, of {COUNT} judged,": _no_maps,
    r"no map could be judged, so none is evidence;": lambda one: not any(one.judged()),
    rf"{COUNT} problems?(?:, in .*? reports,| in .*? reports,)? and {COUNT} cautions?": _findings,
    rf"problems?,? in {COUNT} of {COUNT} reports": _troubled,
    rf"^{COUNT} pictures? (?:was|were) explained with {COUNT} models? \(.*?\) "
    rf"and {COUNT} methods? \(": _scope,
    rf"{COUNT} of {COUNT} pictures could not be explained": _lost,
    rf"{COUNT} of {COUNT} reports could not be made": _further,
    rf"^{COUNT} other files? (?:was|were) passed over": lambda one, files: (
        files == one.survey.passed_over
    ),
    rf"^(\S+) and (\S+) explain the same class on {COUNT} of {COUNT} pictures": _same,
    rf"^{COUNT} of {COUNT} paired comparisons between (methods|models) could be tested; "
    rf"in {COUNT} of them .* for the (.*) comparisons": _tested,
    r"^No paired comparison between (methods|models) could be tested": _untested,
    rf"for {COUNT} of {COUNT} fewer than 6 pictures have both values": _few,
    rf"^{COUNT} of {COUNT} comparisons between (methods|models) could not show a difference, "
    rf"whatever the numbers: they rest on {COUNT} pictures? at most, and where {COUNT} are "
    rf"corrected together, at least {COUNT} are needed": _out_of_reach,
    rf"^{COUNT} numbers? (?:is|are) doubtful": _doubtful,
    r"^No number of a map .* is constant": lambda one: not one.survey.doubts,
    rf"^table.csv holds every number of {COUNT} reports?": lambda one, a: a == len(one.reports),
    rf"^{COUNT} numbers? (?:was|were) not added up": lambda one, number: (
        number == sum(s.note.startswith("not added up") for s in one.survey.summaries)
    ),
    rf"{COUNT} numbers? not compared: the settings differ": lambda one, number: (
        number == sum("settings differ" in c.note for c in one.survey.comparisons)
    ),
    r"^There is nothing to compare": lambda one: not one.survey.comparisons,
}
UNREAD = ("The median over", "Intervals are from", "The table shows", "All comparisons are")


def complaints(one: Case, sentence: str) -> list[str]:
    """Return what of a sentence does not hold, or that no claim was read in it."""
    found = [(claim, re.search(form, sentence)) for form, claim in CLAIMS.items()]
    read = [(claim, match.groups()) for claim, match in found if match]
    if not read:
        return [] if sentence.startswith(UNREAD) else [f"not read: {sentence}"]
    return [sentence for claim, parts in read if not claim(one, *map(_value, parts))]


def _value(part: str) -> int | str:
    if part == "no":
        return 0
    return int(part.replace(",", "")) if re.fullmatch(r"[\d,]*\d", part) else part


@pytest.mark.parametrize("seed", range(SURVEYS))
def test_sentences_hold_on_the_reports(seed: int) -> None:
    one = case(seed)
    assert [wrong for sentence in said(one) for wrong in complaints(one, sentence)] == []
    assert _is_named(one)


@pytest.mark.parametrize("seed", range(0, SURVEYS, 3))
def test_the_table_of_pictures_adds_up_to_the_sentences(seed: int) -> None:
    one = case(seed)
    html = to_survey_html(one.survey, {}, printed=False).split('id="pictures"')[1]
    table = re.findall(r'<tr><th scope="row">.*?</tr>', html.split("</table>")[0], re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in table]
    counts = [tuple(map(int, row[-3:-1])) for row in cells]
    assert counts == list(zip(one.found("problem"), one.found("caution"), strict=True))
    assert html.count('class="quiet"') == len(one.places) - len(one.reports)


def test_another_picture_would_be_seen() -> None:
    one = next(c for c in map(case, range(SURVEYS)) if c.survey.named[:1])
    first, *others = one.survey.named
    named = (first.model_copy(update={"value": first.value + 0.01}), *others)
    assert first.rule == "disagreement"
    assert not _is_named(replace(one, survey=one.survey.model_copy(update={"named": named})))


def test_every_claim_is_met_and_false_of_other_surveys_and_numbers() -> None:
    cases = [case(seed) for seed in range(SURVEYS)]
    met: dict[str, str] = {}
    for one in cases:
        for sentence in said(one):
            matches = {form: re.search(form, sentence) for form in CLAIMS}
            found = {form: match for form, match in matches.items() if match}
            met |= dict.fromkeys(found, sentence)
            for wrong in (w for match in found.values() for w in _with_others(sentence, match)):
                assert complaints(one, wrong), wrong
    assert set(met) == set(CLAIMS)
    for sentence in met.values():
        assert any(complaints(other, sentence) for other in cases), sentence


def _with_others(sentence: str, match: re.Match[str]) -> Iterator[str]:
    """Yield the sentence with another number in place of each that a claim reads."""
    for group, part in enumerate(match.groups(), start=1):
        value = _value(part)
        if isinstance(value, int):
            start, end = match.span(group)
            yield f"{sentence[:start]}{value + 1000}{sentence[end:]}"
