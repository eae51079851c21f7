"""What stands behind a report: cards, provenance, findings with thresholds, all facts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reportgen.facts import seconds
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
    shortened,
)
from reportgen.render.figures import Source
from reportgen.render.lookup import ARROWS, cited_names
from reportgen.render.sections import skip_remarks
from reportgen.render.verdict import alerts

VALUE = 160
TOTAL = "total"


def appendices(source: Source) -> tuple[Part, ...]:
    """Return appendices A (cards), B (provenance), C (findings) and D (facts)."""
    return (
        Part("A", "Methods and metric dictionary", "appendix-a", (), tuple(_cards(source))),
        Part("B", "Provenance", "appendix-b", (), tuple(_provenance(source))),
        Part("C", "Findings and thresholds", "appendix-c", (), (_findings(source),)),
        Part("D", "Facts", "appendix-d", _FACTS_LINES, (_facts(source),)),
    )


_FACTS_LINES = (
    Line(
        "The small numbers behind sentences point here. report.json holds these and all other "
        "facts, and says for each of them where the value behind it stands."
    ),
)


def _cards(source: Source) -> list[Block]:
    methods = [_method_card(attribution) for attribution in source.report.attributions]
    metrics = [_card(card) for card in source.report.metrics]
    blocks: list[Block] = []
    if methods:
        blocks += [Heading("Methods"), *methods]
    if metrics:
        blocks += [Heading("Metric dictionary"), *metrics]
    return blocks


def _method_card(attribution: Attribution) -> CardView:
    named = sorted(attribution.settings.items())
    settings = ", ".join(f"{name} = {_json(value)}" for name, value in named)
    return _card(attribution.card, (Entry("Settings", settings),) if settings else ())


def _card(card: Card, more: tuple[Entry, ...] = ()) -> CardView:
    found = (
        Entry("Definition", card.definition),
        Entry("Paper", card.paper),
        Entry("Range", f"{_range(card.range)}; {card.direction}"),
        *(Entry(quantity.title, _read(quantity)) for quantity in card.quantities),
        Entry("Beside control maps", card.controls),
        Entry("Granularity", _granularity(card)),
        Entry("Needs", card.needs),
        Entry("Seeding", card.seeding),
        Entry("Self-check", card.self_check),
        Entry("Limits", card.limits),
        *more,
    )
    return CardView(card.title, card.category, tuple(entry for entry in found if entry.text))


def _read(quantity: Quantity) -> str:
    """Return how one number of a metric is read."""
    return f"{quantity.meaning} {quantity.direction}; {_range(quantity.range)}".strip()


def _granularity(card: Card) -> str:
    label = "; class-agnostic: nearly the same map for every class" if card.class_agnostic else ""
    return f"{card.granularity}{label}" if card.granularity else ""


def _range(ends: tuple[float | None, float | None]) -> str:
    low, high = ends
    if low is None and high is None:
        return "no limits"
    if high is None:
        return f"from {low:g} up"
    return f"up to {high:g}" if low is None else f"{low:g} to {high:g}"


def _provenance(source: Source) -> list[Block]:
    notes = (*source.report.model.notes, *source.report.image.notes)
    skipped: list[Block] = [*skip_remarks(source, source.report.skipped)]
    if skipped:
        skipped.insert(0, Heading("What was skipped"))
    return [
        Heading("What was read"),
        _files(source),
        _assumptions(source),
        Heading("How it was computed"),
        _machine(source),
        _cost(source),
        _options(source),
        *(Remark("Note.", note) for note in notes),
        *skipped,
    ]


def _files(source: Source) -> Table:
    model, image = source.report.model, source.report.image
    hashes = {
        f"Model file: {model.name}": model.file_sha256 or "not a file",
        "Weights": model.weights_sha256 or "not known",
        f"Picture: {image.name}": image.sha256,
    }
    if image.mask is not None:
        hashes[f"Mask: {image.mask.name}"] = image.mask.sha256 or "boxes, not a file"
    rows = _rows(hashes)
    return Table("SHA-256 of the inputs.", ("Input", "SHA-256"), rows, "list code")


def _assumptions(source: Source) -> Table:
    """Return how the model is read, and where each piece of that was found or assumed."""
    model = source.report.model
    origins = model.preprocessing_sources
    rows = [
        _sourced("head", model.head.value, model.head.source, model.head.evidence),
        _sourced("labels", model.labels.value, model.labels.source),
    ]
    for name, value in model.preprocessing.model_dump(mode="json").items():
        rows.append(_sourced(name, value, origins.get(name, DASH)))
    return Table(
        "How the model is read. What is assumed was found neither in the file nor beside it.",
        ("Setting", "Value", "Source"),
        tuple(rows),
        "list sourced",
    )


def _sourced(name: str, value: object, origin: str, evidence: str = "") -> Row:
    shade = "assumed" if origin == "assumed" else ""
    return Row(name, (Cell(shortened(_json(value), VALUE)), Cell(origin, "", evidence, shade)))


def _machine(source: Source) -> Table:
    provenance, run = source.report.provenance, source.report.run
    packages = ", ".join(
        f"{name} {version}" for name, version in sorted(provenance.packages.items())
    )
    values = {
        "Created": run.created,
        "reportgen": provenance.reportgen,
        "Python": provenance.python,
        "Platform": provenance.platform,
        "Packages": packages,
        "Device": provenance.device,
        "Precision": provenance.precision,
        "Batch normalisation": _folding(provenance.folded),
        "Batch size": str(provenance.batch_size),
        "Threads": str(provenance.threads),
        "Seed": str(provenance.seed),
        "Determinism": provenance.determinism,
    }
    return Table("Software and machine.", ("What", "Value"), _rows(values), "list")


def _folding(folded: bool) -> str:
    return "folded for passes without gradients" if folded else "as in the network"


def _cost(source: Source) -> Table:
    """Return the passes and the seconds of each stage, and their totals."""
    passes = {stage.stage: stage for stage in source.report.provenance.passes}
    spent = source.report.run.seconds
    rows = [
        Row(name, (*_passes(passes.get(name)), _seconds(spent.get(name))))
        for name in dict.fromkeys([*passes, *sorted(spent)])
        if name != TOTAL
    ]
    counted = (source.facts.cell("passes.forward"), source.facts.cell("passes.backward"))
    total = Row(TOTAL, (*counted, _seconds(spent.get(TOTAL))))
    columns = ("Stage", "Forward passes", "Backward passes", "Time")
    return Table("Cost: pictures sent through the network.", columns, (*rows, total), "right whole")


def _passes(stage: Passes | None) -> tuple[Cell, Cell]:
    if stage is None:
        return Cell(DASH), Cell(DASH)
    return Cell(str(stage.forward)), Cell(str(stage.backward))


def _seconds(spent: float | None) -> Cell:
    return Cell(DASH if spent is None else seconds(spent))


def _options(source: Source) -> Table:
    config = source.report.provenance.config
    values = {name: shortened(_json(value), VALUE) for name, value in sorted(config.items())}
    return Table("Options of the run.", ("Option", "Value"), _rows(values), "list columns")


def _findings(source: Source) -> Block:
    if not source.report.findings:
        return Remark("None.", "No rule concluded anything.")
    return AlertList(alerts(source))


def _facts(source: Source) -> Table:
    rows = tuple(
        Row(str(entry.number), _fact_cells(entry.fact), entry.anchor)
        for name in cited_names(source.report)
        if (entry := source.facts.entries.get(name))
    )
    caption = "The facts that the text rests on. ↑ higher is better, ↓ lower is better."
    return Table(caption, ("No.", "Fact", "Value"), rows, "facts")


def _fact_cells(fact: Fact) -> tuple[Cell, ...]:
    better = ARROWS.get(fact.direction, "")
    return Cell(fact.name), Cell(f"{fact.text or DASH} {better}".strip())


def _rows(values: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(Row(name, (Cell(text or DASH),)) for name, text in values.items())


def _json(value: object) -> str:
    """Return ``value`` as it stands in report.json, a string without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
