"""Which tables stand in a survey: medians side by side, paired differences, doubts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reportgen.facts.formats import percent, probability, signed
from reportgen.phrases import named, phrase, retold
from reportgen.render.document import DASH, Cell, Row, Table
from reportgen.render.figures import CONTROLS
from reportgen.render.survey_numbers import Numbers, each_once
from reportgen.surveys.records import Comparison, Doubt, Summary

ABREAST = 5
RANDOM = "smooth-random"
PREDICTION = "prediction"

Key = tuple[str, str, str]


def method_tables(numbers: Numbers) -> tuple[Table, ...]:
    """Return the medians of every number: of one model by method, of several models by model."""
    if numbers.several:
        return _side_by_side(numbers)
    model = numbers.survey.models[0].key
    chunks = _chunks(list(numbers.survey.titles))
    tables = (_by_method(numbers, model, chunk) for chunk in chunks)
    return tuple(table for table in tables if table)


def _by_method(numbers: Numbers, model: str, methods: Sequence[str]) -> Table | None:
    found = _first(numbers.survey.summaries)
    metrics = each_once(metric for _, metric, subject in found if subject in methods)
    subjects = [*methods, RANDOM]
    rows = (
        Row(
            numbers.metric(metric),
            tuple(_cell(numbers, found.get((model, metric, s))) for s in subjects),
        )
        for metric in metrics
    )
    columns = (phrase("column.number"), *(numbers.title(subject) for subject in subjects))
    return _table(phrase("survey.medians"), columns, rows)


def _side_by_side(numbers: Numbers) -> tuple[Table, ...]:
    titles = numbers.survey.titles
    tables = (_by_model(numbers, [subject], titles[subject]) for subject in titles)
    return tuple(table for table in tables if table)


def prediction_table(numbers: Numbers) -> Table | None:
    """Return the medians of what is no map's and no pair's number, a column for each model."""
    titles = {*numbers.survey.titles, *CONTROLS}
    subjects = each_once(
        one.subject
        for one in numbers.survey.summaries
        if one.subject not in titles and "~" not in one.subject
    )
    return _by_model(numbers, subjects, phrase("survey.the-prediction"))


def _by_model(numbers: Numbers, subjects: Sequence[str], title: str) -> Table | None:
    found = _first(numbers.survey.summaries)
    models = [model.key for model in numbers.survey.models]
    places = dict.fromkeys((metric, other) for _, metric, other in found if other in subjects)
    rows = (
        Row(
            _headed(numbers, metric, subject),
            tuple(_cell(numbers, found.get((model, metric, subject))) for model in models),
        )
        for metric, subject in places
    )
    medians = models if numbers.several else [phrase("survey.median")]
    columns = (phrase("column.number"), *medians)
    return _table(phrase("survey.medians-of", title=title), columns, rows)


def pair_tables(numbers: Numbers) -> tuple[Table, ...]:
    """Return the medians of the numbers of pairs of maps, tables for each model."""
    found = _first(numbers.survey.summaries)
    tables = []
    for model in (model.key for model in numbers.survey.models):
        keys = [key for key in found if key[0] == model and "~" in key[2]]
        metrics, pairs = each_once(key[1] for key in keys), each_once(key[2] for key in keys)
        kind = "survey.agreement-under" if numbers.several else "survey.agreement"
        for chunk in _chunks(metrics):
            rows = (
                Row(
                    numbers.title(pair),
                    tuple(_cell(numbers, found.get((model, metric, pair))) for metric in chunk),
                )
                for pair in pairs
            )
            columns = (phrase("survey.maps"), *(numbers.metric(metric) for metric in chunk))
            tables.append(_table(phrase(kind, model=model), columns, rows))
    return tuple(table for table in tables if table)


def _headed(numbers: Numbers, metric: str, subject: str) -> str:
    """Return the title of a number, with what it is of where the table does not say so."""
    if subject == PREDICTION or subject in numbers.survey.titles:
        return numbers.metric(metric)
    title, of = numbers.metric(metric), named("subject", subject)
    return title if of.lower() in title.lower() else f"{title} ({of})"


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    """Return names in portions that stand abreast on a page."""
    return [names[start : start + ABREAST] for start in range(0, len(names), ABREAST)]


def comparison_table(numbers: Numbers, between: str) -> Table | None:
    """Return the comparisons that could be tested, those of the smallest p first."""
    tested = [one for one in numbers.survey.comparisons if one.between == between]
    shown = sorted(
        (one for one in tested if one.p is not None),
        key=lambda one: (1.0 if one.p_adjusted is None else one.p_adjusted, one.p or 0.0),
    )
    rows = (_difference(numbers, one) for one in shown[: numbers.survey.criteria.compared_most])
    share = percent(numbers.survey.criteria.confidence)
    caption = phrase(f"survey.differences-{between}", share=share)
    within = "column.model" if between == "methods" else "column.of"
    keys = (
        "column.number",
        "survey.first",
        "survey.second",
        within,
        "survey.mean",
        "survey.better",
    )
    return _table(caption, (*(phrase(key) for key in keys), "p"), rows)


def doubt_table(numbers: Numbers) -> Table | None:
    """Return what is doubtful, a row for each number and subject."""
    rows = (
        Row(
            numbers.metric(doubt.metric),
            (
                Cell(numbers.title(doubt.subject)),
                Cell(_doubt(numbers, doubt)),
                Cell(", ".join(doubt.models)),
                Cell(str(doubt.count)),
            ),
        )
        for doubt in numbers.survey.doubts
    )
    keys = ("column.number", "column.of", "survey.doubtful-what", "column.model", "survey.values")
    return _table(phrase("survey.doubt-table"), tuple(phrase(key) for key in keys), rows)


def _doubt(numbers: Numbers, doubt: Doubt) -> str:
    if doubt.kind == "derived":
        relation, other = named("relation", doubt.relation), numbers.metric(doubt.other)
        return phrase("survey.derived", relation=relation, other=other)
    return phrase(f"doubt.{doubt.kind}")


def _difference(numbers: Numbers, one: Comparison) -> Row:
    low, high = one.interval or (None, None)
    interval = ""
    if low is not None and high is not None:
        interval = phrase("range.both", low=signed(low), high=signed(high))
    methods = one.between == "methods"
    sides = [one.first, one.second]
    first, second = [numbers.title(side) for side in sides] if methods else sides
    return Row(
        numbers.metric(one.metric),
        (
            Cell(first),
            Cell(second),
            Cell(one.within if methods else numbers.title(one.within)),
            Cell(DASH if one.mean is None else signed(one.mean), detail=interval),
            Cell(phrase("survey.better-of", number=one.better, of=one.pictures)),
            Cell(DASH if one.p_adjusted is None else probability(one.p_adjusted)),
        ),
    )


def _first(summaries: Iterable[Summary]) -> dict[Key, Summary]:
    """Return the summaries by model, number and subject; the first of those that share them."""
    found: dict[Key, Summary] = {}
    for summary in summaries:
        found.setdefault((summary.model, summary.metric, summary.subject), summary)
    return found


def _cell(numbers: Numbers, summary: Summary | None) -> Cell:
    if summary is None:
        return Cell(DASH)
    if summary.median is None:
        return Cell(DASH, detail=retold("note", summary.note))
    text = numbers.number(summary.metric, summary.median)
    doubts = _doubts_about(numbers, summary)
    details = [*_details(numbers, summary), *doubts]
    return Cell(text, detail="; ".join(details), shade="assumed" if doubts else "")


def _doubts_about(numbers: Numbers, summary: Summary) -> tuple[str, ...]:
    """Return in words what is doubtful about a number, each doubt once."""
    return each_once(
        _doubt(numbers, doubt)
        for doubt in numbers.survey.doubts
        if (doubt.metric, doubt.subject) == (summary.metric, summary.subject)
        and summary.model in doubt.models
    )


def _details(numbers: Numbers, summary: Summary) -> list[str]:
    pictures = len({e.number for e in numbers.survey.reported if e.model == summary.model})
    some = summary.pictures != pictures
    count = phrase("survey.on", number=summary.pictures, of=pictures) if some else ""
    place = summary.placement
    better = ""
    if place and place.tested:
        better = phrase("survey.better-on", number=place.better, of=place.tested)
    # A control map among the control maps says nothing.
    placed = better if summary.subject not in CONTROLS else ""
    return [part for part in (numbers.spread(summary), count, placed) if part]


def _table(caption: str, columns: Sequence[str], rows: Iterable[Row]) -> Table | None:
    """Return the table, or None where it has no rows."""
    found = tuple(rows)
    return Table(caption, tuple(columns), found, "survey") if found else None
