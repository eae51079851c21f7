"""A survey as one HTML document: for a screen, with links to the reports, or for print."""

from __future__ import annotations

from reportgen.facts.formats import counted, listed, probability
from reportgen.render.document import DASH, Block, Entry, Part, Remark, numbered, shortened
from reportgen.render.html import environment
from reportgen.render.survey_numbers import Numbers, numbers_of
from reportgen.render.survey_pictures import (
    Verdicts,
    address_of,
    groups,
    pages,
    pages_note,
)
from reportgen.render.survey_tables import (
    comparison_table,
    doubt_table,
    method_tables,
    pair_tables,
    prediction_table,
    reading,
)
from reportgen.render.survey_text import comparisons, summary, unlike
from reportgen.render.survey_view import Line, Link, SurveyDocument
from reportgen.surveys.records import Entry as Explained
from reportgen.surveys.records import Survey
from reportgen.surveys.summary import REFUSED

TITLE = "Model Explainability Survey"
NAME = 60


def to_survey_html(survey: Survey, verdicts: Verdicts, printed: bool) -> str:
    """Return the survey as one HTML document.

    ``verdicts`` are the first pages of the reports to be shown, by number and model. On a screen
    pictures lead to their reports; ``printed`` adds the pages to which they lead there.
    """
    template = environment().get_template("survey.html.j2")
    return template.render(document=_document(survey, verdicts, printed))


def _document(survey: Survey, verdicts: Verdicts, printed: bool) -> SurveyDocument:
    numbers = numbers_of(survey)
    return SurveyDocument(
        title=TITLE,
        identity=_identity(survey),
        running=shortened(", ".join(model.key for model in survey.models), NAME),
        created=survey.run.created,
        generator=f"reportgen {survey.provenance.reportgen}",
        summary=summary(numbers),
        groups=groups(numbers, verdicts, printed),
        parts=numbered(_parts(numbers)),
        columns=_columns(numbers),
        lines=tuple(_line(numbers, entry, printed) for entry in survey.entries),
        pages=pages(numbers, verdicts) if printed else (),
        pages_note=pages_note(survey) if printed else "",
    )


def _identity(survey: Survey) -> tuple[Entry, ...]:
    models = listed(shortened(model.key, NAME) for model in survey.models)
    return (
        Entry("Model" if len(survey.models) == 1 else "Models", models),
        Entry("Pictures", str(survey.pictures)),
        Entry("Made", survey.run.created),
    )


def _parts(numbers: Numbers) -> list[Part]:
    return [
        Part("2", "The numbers over all pictures", "section-2", (), _medians(numbers)),
        Part("3", "Paired differences", "section-3", (), _differences(numbers)),
        Part("4", "What to doubt", "section-4", (), _doubtful(numbers)),
        Part("5", "How it was made", "section-5", (), _made(numbers)),
    ]


def _medians(numbers: Numbers) -> tuple[Block, ...]:
    tables = (*method_tables(numbers), prediction_table(numbers), *pair_tables(numbers))
    found: list[Block] = [
        Remark("How to read.", reading(numbers)),
        *(table for table in tables if table),
    ]
    refused = [one.note for one in numbers.survey.summaries if one.note.startswith(REFUSED)]
    if refused:
        words = counted(len(refused), "number was", "numbers were")
        found.append(Remark("Settings.", f"{words} {REFUSED}: the settings differ."))
    return (*found, Remark("The rest.", "Every number of every picture is a row of table.csv."))


def _differences(numbers: Numbers) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for between in ("methods", "models"):
        sentences = comparisons(numbers, between)
        if sentences:
            blocks.append(Remark(f"Between {between}.", " ".join(sentences)))
            table = comparison_table(numbers, between)
            blocks.extend([table] if table else [])
    if note := unlike(numbers):
        blocks.append(Remark("Left out.", f"{note}."))
    return tuple(blocks) or (Remark("None.", "There is only one method and one model."),)


def _doubtful(numbers: Numbers) -> tuple[Block, ...]:
    table = doubt_table(numbers)
    nothing = "No number of a map or of the prediction is constant over the models or the pictures"
    nothing += ", derived from another, or outside its range."
    return (table,) if table else (Remark("Nothing.", nothing),)


def _made(numbers: Numbers) -> tuple[Block, ...]:
    provenance = numbers.survey.provenance
    forward = sum(passed.forward for passed in provenance.passes)
    backward = sum(passed.backward for passed in provenance.passes)
    options = provenance.config
    return (
        Remark(
            "Options.",
            f"Profile {options.get('profile', DASH)}, seed {provenance.seed}, on "
            f"{provenance.device}; all options and versions are in report.json.",
        ),
        Remark("Cost.", f"{forward:,} pictures forward through the network, {backward:,} back."),
    )


def _columns(numbers: Numbers) -> tuple[str, ...]:
    model = ("Model",) if numbers.several else ()
    return ("Picture", *model, "Class", "Probability", "Problems", "Cautions", "Skipped")


def _line(numbers: Numbers, entry: Explained, printed: bool) -> Line:
    link = Link(f"{entry.number}: {entry.image}", address_of(numbers.survey, entry, printed))
    model = (entry.model,) if numbers.several else ()
    if not entry.folder:
        return Line(link, model, entry.reason)
    counts = (entry.problems, entry.cautions, entry.skipped)
    chance = DASH if entry.probability is None else probability(entry.probability)
    return Line(link, (*model, entry.label, chance, *(str(number) for number in counts)))
