"""The numbered sections of a report: for each key its sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from reportgen.facts.cards import worded_card
from reportgen.phrases import phrase, retold
from reportgen.records import Section, Skipped
from reportgen.render import figures, tables
from reportgen.render.document import Block, Heading, Part, Remark
from reportgen.render.figures import Source

FLOOR = "agreement.iou_floor"

# The steps whose absence belongs to a section; whatever is skipped also stands in appendix B.
# The metrics that each section tells of where they were not made.
STEPS: Mapping[str, frozenset[str]] = {
    "comparison": frozenset({"agreement", "location", "complexity"}),
    "fidelity": frozenset(
        ("deletion", "insertion", "aopc", "baselines", "road", "confidence", "correlation",
         "infidelity", "localisation", "randomisation", "cascading", "emprt", "random-logit",
         "sensitivity", "relative-stability", "sampling-stability")
    ),
    "robustness": frozenset({"rotation", "noise"}),
}  # fmt: skip


def sections(source: Source) -> tuple[Part, ...]:
    """Return the sections of the report in their order, numbered from 1."""
    return tuple(
        _part(source, section, number)
        for number, section in enumerate(source.report.sections, start=1)
    )


def skip_remarks(source: Source, skipped: Iterable[Skipped]) -> list[Remark]:
    """Return one remark for each step that was not made."""
    return [
        Remark(phrase("remark.not-made", step=_step(source, skip)), skip.reason, foreign=True)
        for skip in skipped
    ]


def note_remarks(notes: Iterable[str]) -> list[Remark]:
    """Return one remark for each note."""
    told = ((note, retold("note", note)) for note in notes)
    return [Remark(phrase("remark.note"), text, text == note) for note, text in told]


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
    told = worded_card(attribution.card).limits
    limits = [Remark(phrase("remark.limits"), told)] if told else []
    figure = figures.map_figure(source, attribution)
    strip, layer = tables.strip(source, attribution), tables.layer(source, attribution)
    return [figure, strip, layer, *note_remarks(attribution.notes), *limits, *skipped]


def _comparison(source: Source, key: str) -> list[Block | None]:
    if not source.report.attributions:
        return [*_section_skips(source, key)]
    overlap, ranks = phrase("table.iou"), phrase("table.spearman")
    if FLOOR in source.facts:
        overlap = f"{overlap} {phrase('table.iou-floor', floor=source.facts.text(FLOOR))}"
    return [
        tables.comparison(source),
        tables.agreement(source, "iou", overlap, signed=False),
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
        Heading(phrase("heading.rotation")),
        figures.rotation_figure(source),
        tables.rotation(source),
    ]


def _noise(source: Source) -> list[Block | None]:
    if not tables.has_any(source, "noise."):
        return []
    return [
        Heading(phrase("heading.noise")),
        figures.noise_figure(source),
        tables.noise(source),
    ]


def _interpretation(source: Source, key: str) -> list[Block | None]:
    return []


def _section_skips(source: Source, key: str) -> list[Remark]:
    return skip_remarks(source, (s for s in source.report.skipped if s.step in STEPS[key]))


def _step(source: Source, skip: Skipped) -> str:
    if not skip.subject:
        return skip.step
    return phrase("step", step=skip.step, subject=source.title(skip.subject))


BLOCKS: Mapping[str, Callable[[Source, str], list[Block | None]]] = {
    "summary": _summary,
    "comparison": _comparison,
    "fidelity": _fidelity,
    "robustness": _robustness,
    "interpretation": _interpretation,
}
