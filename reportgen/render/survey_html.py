"""A survey as one HTML document: for a screen, with links to the reports, or for print."""

from __future__ import annotations

from reportgen.facts.formats import listed, probability
from reportgen.phrases import ENGLISH, phrase, speaking_of
from reportgen.render.document import DASH, Block, Entry, Part, numbered, shortened
from reportgen.render.html import environment
from reportgen.render.survey_numbers import Numbers, numbers_of
from reportgen.render.survey_pictures import (
    Verdicts,
    address_of,
    groups,
    pages,
)
from reportgen.render.survey_tables import (
    comparison_table,
    doubt_table,
    method_tables,
    pair_tables,
    prediction_table,
)
from reportgen.render.survey_text import (
    BETWEEN,
    differences,
    doubtful,
    making,
    medians,
    pages_note,
    summary,
    verdict,
    verdict_of,
)
from reportgen.render.survey_told import Marks
from reportgen.render.survey_view import Line, Link, SurveyDocument
from reportgen.surveys.records import Survey

NAME = 60


def to_survey_html(survey: Survey, verdicts: Verdicts, printed: bool) -> str:
    """Return the survey as one HTML document.

    ``verdicts`` are the first pages of the reports to be shown, by number and model. On a screen
    pictures lead to their reports; ``printed`` adds the pages to which they lead there.
    """
    with speaking_of(language_of(survey)):
        template = environment().get_template("survey.html.j2")
        return template.render(document=_document(survey, verdicts, printed))


def language_of(survey: Survey) -> str:
    """Return the language of a survey: the option of that name."""
    return str(survey.provenance.config.get("language", ENGLISH))


def _document(survey: Survey, verdicts: Verdicts, printed: bool) -> SurveyDocument:
    numbers, marks = numbers_of(survey), Marks()
    line = marks.line(verdict(numbers))
    told = tuple(marks.line(one) for one in summary(numbers))
    named = groups(numbers, verdicts, printed, marks)
    parts = _parts(numbers, marks)
    lines = tuple(_line(numbers, place, printed, marks) for place in range(len(survey.entries)))
    note = marks.line(pages_note(numbers)) if printed else None
    shown = pages(numbers, verdicts, marks) if printed else ()
    facts = Part("B", phrase("survey.facts"), "facts", (), (marks.table(),))
    *parts, facts = numbered([*parts, facts])
    return SurveyDocument(
        title=phrase("survey.title"),
        identity=_identity(survey),
        running=shortened(", ".join(model.key for model in survey.models), NAME),
        created=survey.run.created,
        generator=f"reportgen {survey.provenance.reportgen}",
        verdict=line,
        summary=told,
        groups=named,
        parts=tuple(parts),
        columns=_columns(numbers),
        lines=lines,
        pages=shown,
        pages_note=note,
        facts=facts,
    )


def _identity(survey: Survey) -> tuple[Entry, ...]:
    models = listed(shortened(model.key, NAME) for model in survey.models)
    return (
        Entry(phrase("page.model" if len(survey.models) == 1 else "survey.models"), models),
        Entry(phrase("survey.pictures"), str(survey.pictures)),
        Entry(phrase("page.made"), survey.run.created),
    )


def _parts(numbers: Numbers, marks: Marks) -> list[Part]:
    return [
        Part(
            number,
            phrase(f"survey.section-{number}"),
            f"section-{number}",
            tuple(marks.line(told) for told in sentences(numbers)),
            blocks(numbers),
        )
        for number, (sentences, blocks) in _PARTS.items()
    ]


def _medians(numbers: Numbers) -> tuple[Block, ...]:
    tables = (*method_tables(numbers), prediction_table(numbers), *pair_tables(numbers))
    return tuple(table for table in tables if table)


def _differences(numbers: Numbers) -> tuple[Block, ...]:
    tables = (comparison_table(numbers, between) for between in BETWEEN)
    return tuple(table for table in tables if table)


def _doubtful(numbers: Numbers) -> tuple[Block, ...]:
    table = doubt_table(numbers)
    return (table,) if table else ()


def _no_table(numbers: Numbers) -> tuple[Block, ...]:
    return ()


_PARTS = {
    "2": (medians, _medians),
    "3": (differences, _differences),
    "4": (doubtful, _doubtful),
    "5": (making, _no_table),
}


def _columns(numbers: Numbers) -> tuple[str, ...]:
    model = ("column.model",) if numbers.several else ()
    counts = ("survey.problems", "survey.cautions", "survey.skipped")
    keys = ("page.picture", *model, "column.class", "survey.probability", *counts)
    return tuple(phrase(key) for key in keys)


def _line(numbers: Numbers, place: int, printed: bool, marks: Marks) -> Line:
    entry = numbers.survey.entries[place]
    link = Link(f"{entry.number}: {entry.image}", address_of(numbers.survey, entry, printed))
    model = (entry.model,) if numbers.several else ()
    if not entry.folder:
        return Line(link, model, entry.reason)
    counts = (entry.problems, entry.cautions, entry.skipped)
    chance = DASH if entry.probability is None else probability(entry.probability)
    cells = (*model, entry.label, chance, *(str(number) for number in counts))
    told = marks.line(verdict_of(numbers, place)) if entry.verdict else None
    return Line(link, cells, verdict=told)
