"""What the sentences of a survey count, each count in one place."""

from __future__ import annotations

from collections.abc import Iterable

from reportgen.surveys.comparison import NO_DIFFERENCE, NOT_COMPARED, TOO_FEW, family
from reportgen.surveys.records import Compared, Comparison, Survey, Totals, Unlike
from reportgen.surveys.statistics import fewest_for, holm, smallest_p
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
        ).model_copy(update=_out_of_reach(made, limit))
        for kind, made in groups.items()
    )


def _out_of_reach(made: list[Comparison], limit: float) -> dict[str, int]:
    """Return how many comparisons no data could have made clear, and what that would take."""
    groups = _grouped(one for one in made if one.p is not None or one.note == TOO_FEW)
    hopeless = {key: found for key, group in groups.items() if (found := _hopeless(group, limit))}
    if not hopeless:
        return {}
    together = max(len(groups[key]) for key in hopeless)
    return {
        "out_of_reach": sum(map(len, hopeless.values())),
        "pictures": max(one.pictures for found in hopeless.values() for one in found),
        "together": together,
        "needed": fewest_for(together, limit),
    }


def _hopeless(group: list[Comparison], limit: float) -> list[Comparison]:
    """Return those of one group that the smallest p there can be would leave above ``limit``."""
    tested = [one for one in group if one.p is not None]
    least = holm([smallest_p(one.pictures) for one in tested])
    beyond = [one for one, p in zip(tested, least, strict=True) if p > limit]
    return [*beyond, *(one for one in group if one.p is None)]


def _families(made: list[Comparison]) -> tuple[int, ...]:
    """Return the size of each family of comparisons that are corrected together."""
    groups = _grouped(one for one in made if one.p is not None)
    return tuple(len(group) for group in groups.values())


def _grouped(made: Iterable[Comparison]) -> dict[tuple[str, ...], list[Comparison]]:
    """Return the comparisons by the family in which they are corrected."""
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for one in made:
        groups.setdefault(family(one), []).append(one)
    return groups


def _unlike(survey: Survey) -> tuple[Unlike, ...]:
    notes = [one.note for one in survey.comparisons if one.note.startswith(NOT_COMPARED)]
    return tuple(Unlike(numbers=notes.count(note), note=note) for note in dict.fromkeys(notes))
