"""What the sentences of a survey count, each count in one place."""

from __future__ import annotations

from reportgen.surveys.comparison import NO_DIFFERENCE, NOT_COMPARED, TOO_FEW, family
from reportgen.surveys.records import Compared, Comparison, Survey, Totals, Unlike
from reportgen.surveys.summary import REFUSED


def totals_of(survey: Survey) -> Totals:
    """Return what the sentences of ``survey`` count, from its own records."""
    reported = survey.reported
    explained = {entry.number for entry in reported}
    lost = {entry.number for entry in survey.failed} - explained
    passes = survey.provenance.passes
    return Totals(
        pictures=survey.pictures,
        explained=len(explained),
        lost=len(lost),
        asked=len(survey.entries),
        reports=len(reported),
        further=sum(entry.number not in lost for entry in survey.failed),
        models=len(survey.models),
        methods=len(survey.titles),
        problems=sum(entry.problems for entry in reported),
        cautions=sum(entry.cautions for entry in reported),
        troubled=sum(entry.problems > 0 for entry in reported),
        judged=_sum([entry.judged for entry in reported]),
        beating=_sum([entry.beating for entry in reported]),
        evident=_sum([entry.beating and 1 for entry in reported]),
        doubts=len(survey.doubts),
        refused=sum(one.note.startswith(REFUSED) for one in survey.summaries),
        forward=sum(passed.forward for passed in passes),
        backward=sum(passed.backward for passed in passes),
        compared=_compared(survey),
        unlike=_unlike(survey),
    )


def _sum(counts: list[int | None]) -> int | None:
    """Return the sum of the counts that there are; None where there is none at all."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _compared(survey: Survey) -> tuple[Compared, ...]:
    """Return the counts of the comparisons between methods, then models, where any were made."""
    kinds = dict.fromkeys(one.between for one in survey.comparisons)
    groups = {kind: [one for one in survey.comparisons if one.between == kind] for kind in kinds}
    limit = survey.criteria.significant
    return tuple(
        Compared(
            between=kind,
            made=len(made),
            tested=sum(one.p is not None for one in made),
            clear=sum(one.p_adjusted is not None and one.p_adjusted <= limit for one in made),
            few=sum(one.note == TOO_FEW for one in made),
            equal=sum(one.note == NO_DIFFERENCE for one in made),
            families=_families(made),
        )
        for kind, made in groups.items()
    )


def _families(made: list[Comparison]) -> tuple[int, ...]:
    """Return the size of each family of comparisons that are corrected together."""
    sizes: dict[tuple[str, ...], int] = {}
    for one in made:
        if one.p is not None:
            sizes[family(one)] = sizes.get(family(one), 0) + 1
    return tuple(sizes.values())


def _unlike(survey: Survey) -> tuple[Unlike, ...]:
    notes = [one.note for one in survey.comparisons if one.note.startswith(NOT_COMPARED)]
    return tuple(Unlike(numbers=notes.count(note), note=note) for note in dict.fromkeys(notes))
