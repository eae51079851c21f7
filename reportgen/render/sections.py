"""The numbered sections of a report: for each key its sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from reportgen.records import Section, Skipped
from reportgen.render import figures, tables
from reportgen.render.document import Block, Heading, Part, Remark
from reportgen.render.figures import Source

FLOOR = "agreement.iou_floor"

# The steps whose absence belongs to a section; whatever is skipped also stands in appendix B.
STEPS: Mapping[str, frozenset[str]] = {
    "comparison": frozenset({"comparison", "agreement", "location"}),
    "fidelity": frozenset({"fidelity", "deletion", "insertion", "sensitivity"}),
    "robustness": frozenset({"robustness", "rotation", "noise"}),
}


def sections(source: Source) -> tuple[Part, ...]:
    """Return the sections of the report in their order, numbered from 1."""
    return tuple(
        _part(source, section, number)
        for number, section in enumerate(source.report.sections, start=1)
    )


def skip_remarks(source: Source, skipped: Iterable[Skipped]) -> list[Remark]:
    """Return one remark for each step that was not made."""
    return [Remark(f"Not made: {_step(source, skip)}.", skip.reason) for skip in skipped]


def _part(source: Source, section: Section, number: int) -> Part:
    lines = tuple(source.facts.line(sentence) for sentence in section.sentences)
    blocks = BLOCKS.get(section.key, _method)(source, section.key)
    present = tuple(block for block in blocks if block is not None)
    return Part(str(number), section.title, f"section-{number}", lines, present)


def _summary(source: Source, key: str) -> list[Block | None]:
    return [tables.top_classes(source), tables.identity(source)]


def _method(source: Source, key: str) -> list[Block | None]:
    attribution = source.report.attribution(key)
    skipped = skip_remarks(source, (s for s in source.report.skipped if key in (s.subject, s.step)))
    if attribution is None:
        return [*skipped]
    notes = [Remark("Note.", note) for note in attribution.notes]
    limits = [Remark("Limits.", attribution.card.limits)] if attribution.card.limits else []
    figure = figures.map_figure(source, attribution)
    strip, layer = tables.strip(source, attribution), tables.layer(source, attribution)
    return [figure, strip, layer, *notes, *limits, *skipped]


def _comparison(source: Source, key: str) -> list[Block | None]:
    if not source.report.attributions:
        return [*_section_skips(source, key)]
    floor = f" Chance level: {source.facts.text(FLOOR)}." if FLOOR in source.facts else ""
    overlap = "Overlap (IoU) of the most important pixels of two methods; 1 is the same area."
    ranks = "Rank correlation (Spearman) of two maps; 1 is the same order, -1 the reverse."
    return [
        tables.comparison(source),
        tables.agreement(source, "iou", overlap + floor, signed=False),
        tables.agreement(source, "spearman", ranks, signed=True),
        *_section_skips(source, key),
    ]


def _fidelity(source: Source, key: str) -> list[Block | None]:
    table = tables.fidelity(source) if source.report.attributions else None
    kinds = dict.fromkeys(card.category for card in source.report.metrics)
    told = [kind for kind in kinds if kind != "description"]  # it stands in the comparison
    found = [block for kind in told for block in tables.numbers(source, kind)]
    return [figures.curves_figure(source), table, *found, *_section_skips(source, key)]


def _robustness(source: Source, key: str) -> list[Block | None]:
    return [*_rotation(source), *_noise(source), *_section_skips(source, key)]


def _rotation(source: Source) -> list[Block | None]:
    if not tables.has_any(source, "rotation."):
        return []
    return [
        Heading("Rotation"),
        figures.rotation_figure(source),
        tables.rotation(source),
    ]


def _noise(source: Source) -> list[Block | None]:
    if not tables.has_any(source, "noise."):
        return []
    return [
        Heading("Noise"),
        figures.noise_figure(source),
        tables.noise(source),
    ]


def _interpretation(source: Source, key: str) -> list[Block | None]:
    return []


def _section_skips(source: Source, key: str) -> list[Remark]:
    return skip_remarks(source, (s for s in source.report.skipped if s.step in STEPS[key]))


def _step(source: Source, skip: Skipped) -> str:
    return f"{skip.step} of {source.title(skip.subject)}" if skip.subject else skip.step


BLOCKS: Mapping[str, Callable[[Source, str], list[Block | None]]] = {
    "summary": _summary,
    "comparison": _comparison,
    "fidelity": _fidelity,
    "robustness": _robustness,
    "interpretation": _interpretation,
}
