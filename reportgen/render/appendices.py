"""What stands behind a report: cards, provenance, findings with thresholds, all facts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reportgen.facts import seconds
from reportgen.facts.cards import worded_card
from reportgen.facts.formats import short
from reportgen.phrases import named, phrase, retold
from reportgen.records import Attribution, Card, Fact, Passes, Quantity
from reportgen.render.document import (
    DASH,
    AlertList,
    Block,
    CardView,
    Cell,
    Entry,
    Heading,
    Line,
    Part,
    Remark,
    Row,
    Table,
    capital,
    shortened,
)
from reportgen.render.figures import Source
from reportgen.render.lookup import ARROWS, cited_names
from reportgen.render.narrated import narration_blocks
from reportgen.render.sections import note_remarks, skip_remarks
from reportgen.render.verdict import alerts

VALUE = 160
TOTAL = "total"


def appendices(source: Source) -> tuple[Part, ...]:
    """Return appendices A (cards), B (provenance), C (findings) and D (facts)."""
    return (
        _part("A", (), tuple(_cards(source))),
        _part("B", (), tuple(_provenance(source))),
        _part("C", (), (_findings(source),)),
        _part("D", (Line(phrase("appendix.facts")),), (_facts(source),)),
    )


def _part(letter: str, lines: tuple[Line, ...], blocks: tuple[Block, ...]) -> Part:
    key = f"appendix-{letter.lower()}"
    return Part(letter, phrase(f"title.{key}"), key, lines, blocks)


def _cards(source: Source) -> list[Block]:
    methods = [_method_card(attribution) for attribution in source.report.attributions]
    metrics = [_card(card) for card in source.report.metrics]
    blocks: list[Block] = []
    if methods:
        blocks += [Heading(phrase("heading.methods")), *methods]
    if metrics:
        blocks += [Heading(phrase("heading.metrics")), *metrics]
    return blocks


def _method_card(attribution: Attribution) -> CardView:
    named = sorted(attribution.settings.items())
    settings = ", ".join(f"{name} = {_json(value)}" for name, value in named)
    return _card(
        attribution.card,
        (Entry(phrase("card.settings"), settings, foreign=True),) if settings else (),
    )


def _card(card: Card, more: tuple[Entry, ...] = ()) -> CardView:
    told = worded_card(card)
    found = (
        Entry(phrase("card.definition"), told.definition),
        Entry(phrase("card.paper"), card.paper),
        Entry(phrase("card.range"), phrase("range-way", way=_way(card), range=_range(card.range))),
        *(Entry(quantity.title, _read(quantity)) for quantity in told.quantities),
        Entry(phrase("card.controls"), told.controls),
        Entry(phrase("card.granularity"), _granularity(card)),
        Entry(phrase("card.needs"), told.needs),
        Entry(phrase("card.seeding"), told.seeding),
        Entry(phrase("card.self_check"), told.self_check),
        Entry(phrase("card.limits"), told.limits),
        *more,
    )
    category = named("category", card.category)
    return CardView(told.title, category, tuple(entry for entry in found if entry.text))


def _read(quantity: Quantity) -> str:
    """Return how one number of a metric is read."""
    told = phrase("way-range", way=_way(quantity), range=_range(quantity.range))
    return f"{quantity.meaning} {capital(told)}" if quantity.meaning else told


def _way(read: Card | Quantity) -> str:
    return phrase(f"direction.{read.direction}")


def _granularity(card: Card) -> str:
    if not card.granularity:
        return ""
    kind = phrase(f"granularity.{card.granularity}")
    return phrase("card.class-agnostic", granularity=kind) if card.class_agnostic else kind


def _range(ends: tuple[float | None, float | None]) -> str:
    low, high = (None if end is None else short(end) for end in ends)
    if low is None and high is None:
        return phrase("range.open")
    if high is None:
        return phrase("range.from", low=low)
    if low is None:
        return phrase("range.to", high=high)
    return phrase("range.both", low=low, high=high)


def _provenance(source: Source) -> list[Block]:
    notes = (*source.report.model.notes, *source.report.image.notes)
    skipped: list[Block] = [*skip_remarks(source, source.report.skipped)]
    if skipped:
        skipped.insert(0, Heading(phrase("heading.skipped")))
    return [
        Heading(phrase("heading.read")),
        _files(source),
        _assumptions(source),
        Heading(phrase("heading.computed")),
        _machine(source),
        _cost(source),
        _options(source),
        *narration_blocks(source.report.narration),
        *note_remarks(notes),
        *skipped,
    ]


def _files(source: Source) -> Table:
    model, image = source.report.model, source.report.image
    hashes = {
        phrase("input.model", name=model.name): model.file_sha256 or phrase("input.no-file"),
        phrase("input.weights"): model.weights_sha256 or phrase("input.not-known"),
        phrase("input.picture", name=image.name): image.sha256,
    }
    if image.mask is not None:
        name = phrase("input.mask", name=image.mask.name)
        hashes[name] = image.mask.sha256 or phrase("input.boxes")
    columns = (phrase("column.input"), "SHA-256")
    return Table(phrase("table.inputs"), columns, _rows(hashes), "list code")


def _assumptions(source: Source) -> Table:
    """Return how the model is read, and where each piece of that was found or assumed."""
    model = source.report.model
    origins = model.preprocessing_sources
    rows = [
        _sourced(
            "head", retold("head", str(model.head.value)), model.head.source, model.head.evidence
        ),
        _sourced("labels", model.labels.value, model.labels.source),
    ]
    for name, value in model.preprocessing.model_dump(mode="json").items():
        rows.append(_sourced(name, value, origins.get(name, DASH)))
    if model.transform_input is not None:
        name = "transform_input"
        rows.append(_sourced(name, model.transform_input, origins.get(name, DASH)))
    return Table(
        phrase("table.assumptions"),
        (phrase("column.setting"), phrase("column.value"), phrase("column.source")),
        tuple(rows),
        "list sourced",
    )


def _sourced(name: str, value: object, origin: str, evidence: str = "") -> Row:
    shade = "assumed" if origin == "assumed" else ""
    told, found = named("origin", origin), retold("evidence", evidence)
    setting = named("setting", name)
    return Row(setting, (Cell(shortened(_json(value), VALUE)), Cell(told, "", found, shade)))


def _machine(source: Source) -> Table:
    provenance, run = source.report.provenance, source.report.run
    packages = ", ".join(
        f"{name} {version}" for name, version in sorted(provenance.packages.items())
    )
    values = {
        phrase("machine.created"): run.created,
        "reportgen": provenance.reportgen,
        "Python": provenance.python,
        phrase("machine.platform"): provenance.platform,
        phrase("machine.packages"): packages,
        phrase("machine.device"): provenance.device,
        phrase("machine.precision"): provenance.precision,
        phrase("machine.folding"): _folding(provenance.folded),
        phrase("machine.batch-size"): str(provenance.batch_size),
        phrase("machine.threads"): str(provenance.threads),
        phrase("machine.seed"): str(provenance.seed),
        phrase("machine.determinism"): retold("determinism", provenance.determinism),
    }
    columns = (phrase("column.what"), phrase("column.value"))
    return Table(phrase("table.machine"), columns, _rows(values), "list")


def _folding(folded: bool) -> str:
    return phrase("folding.folded" if folded else "folding.kept")


def _cost(source: Source) -> Table:
    """Return the passes and the seconds of each stage, and their totals."""
    passes = {stage.stage: stage for stage in source.report.provenance.passes}
    spent = source.report.run.seconds
    rows = [
        Row(named("stage", name), (*_passes(passes.get(name)), _seconds(spent.get(name))))
        for name in dict.fromkeys([*passes, *sorted(spent)])
        if name != TOTAL
    ]
    counted = (source.facts.cell("passes.forward"), source.facts.cell("passes.backward"))
    total = Row(phrase("stage.total"), (*counted, _seconds(spent.get(TOTAL))))
    keys = ("column.stage", "column.forward", "column.backward", "column.time")
    columns = tuple(phrase(key) for key in keys)
    return Table(phrase("table.cost"), columns, (*rows, total), "right whole")


def _passes(stage: Passes | None) -> tuple[Cell, Cell]:
    if stage is None:
        return Cell(DASH), Cell(DASH)
    return Cell(str(stage.forward)), Cell(str(stage.backward))


def _seconds(spent: float | None) -> Cell:
    return Cell(DASH if spent is None else seconds(spent))


def _options(source: Source) -> Table:
    config = source.report.provenance.config
    values = {name: shortened(_json(value), VALUE) for name, value in sorted(config.items())}
    columns = (phrase("column.option"), phrase("column.value"))
    return Table(phrase("table.options"), columns, _rows(values), "list columns")


def _findings(source: Source) -> Block:
    if not source.report.findings:
        return Remark(phrase("remark.none"), phrase("page.no-findings"))
    return AlertList(alerts(source))


def _facts(source: Source) -> Table:
    rows = tuple(
        Row(str(entry.number), _fact_cells(entry.fact), entry.anchor)
        for name in cited_names(source.report)
        if (entry := source.facts.entries.get(name))
    )
    columns = (phrase("column.no"), phrase("column.fact"), phrase("column.value"))
    return Table(phrase("table.facts"), columns, rows, "facts")


def _fact_cells(fact: Fact) -> tuple[Cell, ...]:
    better = ARROWS.get(fact.direction, "")
    return Cell(fact.name), Cell(f"{fact.text or DASH} {better}".strip())


def _rows(values: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(Row(name, (Cell(text or DASH),)) for name, text in values.items())


def _json(value: object) -> str:
    """Return ``value`` as it stands in report.json, a string without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
