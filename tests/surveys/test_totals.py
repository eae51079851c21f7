"""What the sentences of a survey count, by hand."""

from __future__ import annotations

import pytest
from survey_toys import Numbers, report_of, tally_of

from reportgen.records import Fact, Run, Sentence
from reportgen.surveys.records import Compared, Entry, Survey
from reportgen.surveys.survey import survey_of
from reportgen.surveys.tally import entry_of
from reportgen.surveys.totals import totals_of

RUN = Run(created="2026-01-01T00:00:00+00:00", seconds={"total": 1.0})
METHODS = ("gradcam", "saliency")
PLACE = Entry(number=1, image="x.png", model="a", folder="images/0001-x")


def survey() -> Survey:
    """Return three pictures under two models; the second model failed on one, both on another."""
    pictures: list[Numbers] = [
        {("deletion", "gradcam"): 0.1 * i, ("deletion", "saliency"): 0.1 * i} for i in range(2)
    ]
    tally = tally_of({"a": pictures, "b": pictures[:1]})
    for number, model in ((2, "b"), (3, "a"), (3, "b")):
        tally.fail(Entry(number=number, image="x.png", model=model, reason="It is broken."))
    return survey_of(tally, 0, RUN)


def test_pictures_and_reports() -> None:
    totals = totals_of(survey())
    assert (totals.pictures, totals.explained, totals.lost) == (3, 2, 1)
    assert (totals.asked, totals.reports, totals.further) == (6, 3, 1)
    assert (totals.models, totals.methods) == (2, 2)


def test_findings_and_maps() -> None:
    found = survey()
    counts = iter([(2, 1, 2, 1), (0, 3, 2, 0), (1, 0, 0, 0)])
    keys = ("problems", "cautions", "judged", "beating")
    entries = tuple(
        e.model_copy(update=dict(zip(keys, next(counts), strict=True))) if e.folder else e
        for e in found.entries
    )
    totals = totals_of(found.model_copy(update={"entries": entries}))
    assert (totals.problems, totals.cautions, totals.troubled) == (3, 4, 2)
    assert (totals.judged, totals.beating, totals.evident) == (4, 1, 1)


def test_comparisons() -> None:
    methods, models = totals_of(survey()).compared
    assert methods == Compared(
        between="methods", made=2, tested=0, clear=0, few=2, equal=0, families=(),
        out_of_reach=2, pictures=2, together=1, needed=6,
    )  # fmt: skip
    assert (models.between, models.made, models.few) == ("models", 2, 2)


def many(pictures: int, numbers: int) -> Compared:
    """Return the totals of comparing two methods, where all differences go one way."""
    keys = ("deletion", "insertion", "drop", "rise")[:numbers]
    values: list[Numbers] = [
        {(key, m): 0.1 * i * (m == "saliency") + 0.01 for key in keys for m in METHODS}
        for i in range(1, pictures + 1)
    ]
    (found,) = totals_of(survey_of(tally_of({"a": values}), 0, RUN)).compared
    return found


@pytest.mark.parametrize(
    ("pictures", "numbers", "out_of_reach", "needed"),
    [(5, 1, 1, 6), (6, 1, 0, 0), (7, 3, 0, 0), (6, 3, 3, 7), (8, 4, 0, 0), (7, 4, 4, 8)],
)
def test_what_no_data_could_show(
    pictures: int, numbers: int, out_of_reach: int, needed: int
) -> None:
    found = many(pictures, numbers)
    assert (found.out_of_reach, found.needed) == (out_of_reach, needed)
    assert found.clear == (0 if out_of_reach else found.made)
    if needed:
        assert (found.pictures, found.together) == (pictures, found.made)
        assert many(needed, numbers).clear == found.made


def test_they_are_in_the_survey() -> None:
    found = survey()
    assert found.totals == totals_of(found)


def test_an_entry_has_the_verdict_of_its_report_and_how_many_maps_are_evidence() -> None:
    report = report_of({("deletion", "gradcam"): 0.1})
    facts = tuple(
        Fact(name=f"report.{name}", value=value, text=str(value), source="/measurements")
        for name, value in (("judged", 2), ("beating", 1))
    )
    line = Sentence(text="It is a cat.", facts=("report.judged", "gone"))
    told = report.model_copy(update={"facts": facts, "verdict": line})
    entry = entry_of(PLACE, told)
    assert (entry.verdict, entry.judged, entry.beating) == ("It is a cat.", 2, 1)
    assert entry.facts == facts[:1]


def test_where_no_map_was_judged_an_entry_says_none() -> None:
    report = report_of({("deletion", "gradcam"): 0.1}).model_copy(update={"facts": ()})
    entry = entry_of(PLACE, report)
    assert (entry.verdict, entry.judged, entry.beating) == ("", 0, 0)
