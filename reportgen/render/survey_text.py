"""The sentences of a survey; every number in them stands in its record."""

from __future__ import annotations

from collections.abc import Sequence

from reportgen.facts.formats import count, counted, decimal, listed
from reportgen.render.document import shortened
from reportgen.render.survey_numbers import Numbers
from reportgen.render.survey_tables import MOST_ROWS, significant
from reportgen.surveys.comparison import NO_DIFFERENCE, TOO_FEW, family
from reportgen.surveys.records import Comparison

NAME = 60


def summary(numbers: Numbers) -> tuple[str, ...]:
    """Return what was done, what failed, and how many findings there are."""
    return tuple(
        sentence
        for sentence in (
            _scope(numbers),
            _failures(numbers),
            _passed_over(numbers),
            _findings(numbers),
            *_same(numbers),
            _doubts(numbers),
        )
        if sentence
    )


def comparisons(numbers: Numbers, between: str) -> tuple[str, ...]:
    """Return how many paired comparisons were tested, how, and how many differ."""
    survey = numbers.survey
    made = [one for one in survey.comparisons if one.between == between]
    if not made:
        return ()
    tested = [one for one in made if one.p is not None]
    if not tested:
        return (_none_tested(numbers, made, between),)
    clear = significant(numbers, between)
    criteria = survey.criteria
    sentences = [
        f"{count(len(tested))} of {count(len(made))} paired comparisons between {between} could be "
        f"tested; in {count(len(clear))} of them p is at most {criteria.significant} (Wilcoxon's "
        "signed-rank test, after Holm's correction for the "
        f"{listed(_sizes(numbers, between))} comparisons made together).",
        f"Intervals are from {count(criteria.resamples)} bootstrap samples of the pictures; the "
        "pictures are a sample only if they were chosen as one.",
    ]
    if len(tested) > MOST_ROWS:
        sentences.append(f"The table shows the {MOST_ROWS} with the smallest p.")
    return (*sentences, "All comparisons are in report.json.")


def _none_tested(numbers: Numbers, made: Sequence[Comparison], between: str) -> str:
    fewest = numbers.survey.criteria.fewest
    few = sum(one.note == TOO_FEW for one in made)
    equal = sum(one.note == NO_DIFFERENCE for one in made)
    why = (
        f"for {count(few)} of {count(len(made))} fewer than {fewest} pictures have both values, "
        "and with fewer the smallest two-sided p of the signed-rank test is above 0.05"
        if few
        else "",
        f"{count(equal)} of {count(len(made))} show no difference on any picture" if equal else "",
    )
    reasons = "; ".join(part for part in why if part) or "the values cannot be compared"
    return f"No paired comparison between {between} could be tested: {reasons}."


def _sizes(numbers: Numbers, between: str) -> list[str]:
    """Return the size of each family of comparisons that are corrected together."""
    sizes: dict[tuple[str, ...], int] = {}
    for one in numbers.survey.comparisons:
        if one.between == between and one.p is not None:
            sizes[family(one)] = sizes.get(family(one), 0) + 1
    return [count(size) for size in sizes.values()]


def unlike(numbers: Numbers) -> str:
    """Return how many comparisons between models were not made, and why."""
    notes = [one.note for one in numbers.survey.comparisons if one.note.startswith("not compared")]
    kinds = {note: notes.count(note) for note in notes}
    return "; ".join(f"{counted(n, 'number', 'numbers')} {note}" for note, n in kinds.items())


def _scope(numbers: Numbers) -> str:
    survey = numbers.survey
    explained = len({entry.number for entry in survey.reported})
    models = listed(shortened(model.key, NAME) for model in survey.models)
    titles = tuple(survey.titles.values())
    return (
        f"{count(explained)} {'picture was' if explained == 1 else 'pictures were'} explained "
        f"with {counted(len(survey.models), 'model', 'models')} ({models}) and "
        f"{counted(len(titles), 'method', 'methods')} ({listed(titles)})."
    )


def _failures(numbers: Numbers) -> str:
    """Return how many pictures have no report at all, and how many more reports are missing."""
    survey = numbers.survey
    lost = {e.number for e in survey.failed} - {e.number for e in survey.reported}
    further = sum(entry.number not in lost for entry in survey.failed)
    parts = (
        f"{len(lost)} of {survey.pictures} pictures could not be explained" if lost else "",
        f"{further} of {len(survey.entries)} reports could not be made" if further else "",
    )
    words = "; ".join(part for part in parts if part)
    return f"{words}; the table of pictures says why." if words else ""


def _passed_over(numbers: Numbers) -> str:
    number = numbers.survey.passed_over
    if not number:
        return ""
    files = counted(number, "other file was", "other files were")
    return f"{files} passed over, taken for no pictures by the ending of the name."


def _findings(numbers: Numbers) -> str:
    reported = numbers.survey.reported
    problems = sum(entry.problems for entry in reported)
    cautions = sum(entry.cautions for entry in reported)
    troubled = sum(entry.problems > 0 for entry in reported)
    where = f", in {count(troubled)} of {count(len(reported))} reports," if problems else ""
    return (
        f"The reports hold {counted(problems, 'problem', 'problems')}{where} and "
        f"{counted(cautions, 'caution', 'cautions')}."
    )


def _same(numbers: Numbers) -> list[str]:
    return [
        f"{shortened(one.first, NAME)} and {shortened(one.second, NAME)} explain the same class "
        f"on {one.same} of {one.pictures} pictures."
        for one in numbers.survey.same
        if one.pictures
    ]


def _doubts(numbers: Numbers) -> str:
    number = len(numbers.survey.doubts)
    if not number:
        return ""
    return (
        f"{counted(number, 'number is', 'numbers are')} doubtful: constant, derived from another, "
        "or outside the range; section 4 lists them."
    )


def value_of(rule: str, value: float) -> str:
    """Return what a rule ranks a picture by, in words."""
    return _VALUES[rule].format(decimal(value))


_VALUES = {
    "disagreement": "mean IoU {}",
    "fidelity": "{} standard deviations",
    "stability": "max-sensitivity {}",
}
