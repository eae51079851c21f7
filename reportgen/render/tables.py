"""Which tables stand in a report. Records decide the rows; facts are the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reportgen.facts import LAYER_CHECKS, fact_name
from reportgen.facts.cards import worded_quantity
from reportgen.phrases import named, phrase
from reportgen.records import Attribution, ClassScore, Prediction, Quantity
from reportgen.render.document import DASH, Block, Cell, Heading, Row, Stated, Strip, Table, capital
from reportgen.render.figures import NOISES, Source
from reportgen.render.lookup import ARROWS, worded_direction

SEVERITIES = range(1, 6)
TOP = 5
FIDELITY = ("deletion_auc", "insertion_auc", "sensitivity", "self_check")
PLACE = ("location", "area_share", "resolution")
IDENTITY = (
    "model.name", "model.format", "model.architecture", "model.parameters", "model.classes",
    "model.head", "model.device", "image.name", "image.size", "image.input_size",
)  # fmt: skip
LAYER = ("name", "grid", "layout", "channels", *LAYER_CHECKS)
LOOKED_AT = {"layer": "column.layer-looked-at", "layer.runner_up": "column.runner-up"}
ROTATION = {
    "positive": ("rotation.positive", "rotation.positive.class"),
    "negative": ("rotation.negative", "rotation.negative.class"),
    "first": ("rotation.first", "rotation.first_class"),
}
SHADES = 6
WIDEST_HALF = 6
WIDEST = 6


def top_classes(source: Source) -> Table:
    """Return the first five classes with their probabilities."""
    rows = (_class_row(source, i, score) for i, score in enumerate(_top(source), start=1))
    caption = phrase("table.top-labels" if source.several else "table.top-classes")
    columns = (phrase("column.rank"), phrase("column.class"), phrase("column.probability"))
    return Table(caption, columns, tuple(rows), "half ranks")


def identity(source: Source) -> Table:
    """Return what the model and the picture are."""
    rows = (Row(phrase(f"identity.{name}"), (source.facts.cell(name),)) for name in IDENTITY)
    columns = (phrase("column.what"), phrase("column.value"))
    return Table(phrase("table.identity"), columns, tuple(rows), "half list")


def strip(source: Source, attribution: Attribution) -> Strip:
    """Return the numbers of one method, each beside the same number of the random control."""
    method = attribution.method
    keys = (*FIDELITY, *PLACE, *(("layer",) if f"{method}.layer" in source.facts else ()))
    return Strip(tuple(_stated(source, method, key) for key in keys))


def layer(source: Source, attribution: Attribution) -> Table | None:
    """Return the self-test of the layer and of the runner-up, with the first map that needs it."""
    looking = [a for a in source.report.attributions if "layer" in a.settings]
    if "layer.name" not in source.facts or looking[:1] != [attribution]:
        return None
    shown = [role for role in LOOKED_AT if f"{role}.name" in source.facts]
    rows = (
        Row(phrase(f"layer.{key}"), tuple(source.facts.cell(f"{role}.{key}") for role in shown))
        for key in LAYER
    )
    columns = (phrase("column.check"), *(phrase(LOOKED_AT[role]) for role in shown))
    return Table(phrase("table.layer"), columns, tuple(rows), "whole")


def comparison(source: Source) -> Table:
    """Return where the map of each method lies and how fine it is."""
    rows = (
        Row(a.card.title, tuple(source.facts.cell(f"{a.method}.{key}") for key in PLACE))
        for a in source.report.attributions
    )
    columns = (phrase("column.method"), *(phrase(f"column.{key}") for key in PLACE))
    return Table(phrase("table.comparison"), columns, tuple(rows), "whole")


def fidelity(source: Source) -> Table:
    """Return the scores of the methods, and those of the control maps below them."""
    methods = [a.method for a in source.report.attributions]
    rows = [_fidelity_row(source, subject, quiet=False) for subject in methods]
    rows += [_fidelity_row(source, subject, quiet=True) for subject in source.controls]
    subjects = [*methods, *source.controls]
    columns = (phrase("column.map"), *(_headed(source, key, subjects) for key in FIDELITY))
    return Table(phrase("table.fidelity"), columns, tuple(rows), "whole")


def numbers(source: Source, category: str) -> list[Block]:
    """Return all numbers that the metrics of a category give of the maps, under its name.

    A row for each number, a column for each map; tables of at most ``WIDEST`` methods each.
    """
    cards = [card for card in source.report.metrics if card.category == category]
    quantities = [quantity for card in cards for quantity in card.quantities]
    methods = [a.method for a in source.report.attributions]
    found = [
        table
        for start in range(0, len(methods), WIDEST)
        if (table := _numbers(source, category, quantities, methods[start : start + WIDEST]))
    ]
    return [Heading(capital(named("category", category))), *found] if found else []


def _numbers(
    source: Source, category: str, quantities: list[Quantity], methods: list[str]
) -> Table | None:
    rows = [row for quantity in quantities for row in _number_rows(source, quantity, methods)]
    if not rows:
        return None
    kinds = tuple(source.facts.cell(f"{method}.granularity") for method in methods)
    return Table(
        phrase("table.numbers", category=capital(named("category", category))),
        (phrase("column.number"), *(source.title(method) for method in methods)),
        (Row(phrase("column.granularity"), kinds), *rows),
        "whole numbers",
    )


def _number_rows(source: Source, quantity: Quantity, methods: list[str]) -> list[Row]:
    """Return the row of a number, and that of the verdict on it, where there are any."""
    names = [fact_name(quantity.key, method) for method in methods]
    if not any(name in source.facts for name in names):
        return []
    arrow = ARROWS.get(quantity.direction, "")
    cells = tuple(source.facts.cell(name, detail=_rank(source, name)) for name in names)
    verdicts = [f"{name}.verdict" for name in names]
    rows = [Row(f"{worded_quantity(quantity).title} {arrow}".strip(), cells)]
    if any(name in source.facts for name in verdicts):
        cells = tuple(source.facts.cell(name) for name in verdicts)
        rows.append(Row(phrase("column.verdict"), cells))
    return rows


def _rank(source: Source, name: str) -> str:
    return source.facts.text(f"{name}.rank") if f"{name}.rank" in source.facts else ""


def agreement(source: Source, metric: str, caption: str, signed: bool) -> Table | None:
    """Return the matrix of ``metric`` between all pairs of methods, or None where there is none.

    The shade of a cell is drawn from the array ``agreement.<metric>``; its text is the fact.
    """
    attributions = source.report.attributions
    values = source.arrays.get(f"agreement.{metric}")
    if values is None or len(attributions) < 2:
        return None
    shade = _diverging if signed else _sequential
    titles = [f"{i} {a.card.title}" for i, a in enumerate(attributions, start=1)]
    rows = tuple(
        Row(title, tuple(_pair(source, metric, i, j, shade(values[i, j])) for j in _range(titles)))
        for i, title in enumerate(titles)
    )
    columns = (phrase("column.method"), *(str(i + 1) for i in _range(titles)))
    return Table(
        caption, columns, rows, "half matrix" if len(rows) <= WIDEST_HALF else "dense matrix"
    )


def rotation(source: Source) -> Table:
    """Return the angles at which the prediction first changes, and what it changes to."""
    rows = (
        Row(phrase(f"rotation.{side}"), tuple(source.facts.cell(name) for name in names))
        for side, names in ROTATION.items()
    )
    kind, step = "label" if source.several else "class", source.facts.text("rotation.step")
    columns = ("column.direction", "column.angle", f"column.new-{kind}")
    caption = phrase(f"table.rotation-{kind}", step=step)
    return Table(caption, tuple(phrase(key) for key in columns), tuple(rows), "whole")


def noise(source: Source) -> Table:
    """Return the share of probability kept for each noise and severity, with the flips."""
    rows = (
        Row(phrase(f"noise-title.{kind}"), tuple(_noise_cells(source, kind))) for kind in NOISES
    )
    severities = (phrase("column.severity", level=level) for level in SEVERITIES)
    caption = phrase("table.noise-label" if source.several else "table.noise-class")
    return Table(caption, (phrase("column.noise"), *severities), tuple(rows), "right whole")


def has_any(source: Source, *prefixes: str) -> bool:
    """Return whether a fact exists whose name starts with one of ``prefixes``."""
    return any(name.startswith(prefixes) for name in source.facts.entries)


def _top(source: Source) -> Sequence[ClassScore]:
    return source.report.prediction.top[:TOP]


def _class_row(source: Source, rank: int, score: ClassScore) -> Row:
    name = f"prediction.top{rank}"
    detail = _role(source.report.prediction, score)
    label = source.facts.cell(f"{name}.label", detail=detail)
    return Row(str(rank), (label, source.facts.cell(f"{name}.probability")))


def _role(prediction: Prediction, score: ClassScore) -> str:
    """Return what part a class has in what is explained, if any."""
    contrast = prediction.contrast
    if contrast is not None:
        roles = {contrast.first.index: "role.why", contrast.second.index: "role.and-not"}
    else:
        roles = {prediction.target.index: "role.explained"}
    return phrase(roles[score.index]) if score.index in roles else ""


def _stated(source: Source, method: str, key: str) -> Stated:
    name = f"{method}.{key}"
    direction, rank = source.facts.direction(name), _rank(source, name)
    title = f"{phrase(f'column.{key}')} {ARROWS.get(direction, '')}".strip()
    yardstick = phrase("better-than", rank=rank) if rank else ""
    return Stated(title, source.facts.cell(name), worded_direction(direction), yardstick)


def _fidelity_row(source: Source, subject: str, quiet: bool) -> Row:
    names = [f"{subject}.{key}" for key in FIDELITY]
    cells = tuple(source.facts.cell(name, detail=_rank(source, name)) for name in names)
    return Row(source.title(subject), cells, quiet=quiet)


def _headed(source: Source, key: str, subjects: Sequence[str]) -> str:
    direction = source.facts.direction(*(f"{subject}.{key}" for subject in subjects))
    return f"{phrase(f'column.{key}')} {ARROWS.get(direction, '')}".strip()


def _range(items: Sequence[str]) -> range:
    return range(len(items))


def _pair(source: Source, metric: str, row: int, column: int, shade: str) -> Cell:
    if row == column:
        return Cell(DASH, shade="same")
    methods = [a.method for a in source.report.attributions]
    first, second = methods[row], methods[column]
    names = (f"{first}~{second}.{metric}", f"{second}~{first}.{metric}")
    known = next((name for name in names if name in source.facts), names[0])
    return source.facts.cell(known, shade)


def _sequential(value: float) -> str:
    """Return the shade of a value in [0, 1]: ``p0`` to ``p5``."""
    return f"p{_level(value)}"


def _diverging(value: float) -> str:
    """Return the shade of a value in [-1, 1]: ``n5`` to ``n1``, then ``p0`` to ``p5``."""
    return f"n{_level(-value)}" if value < 0 else f"p{_level(value)}"


def _level(value: float) -> int:
    return int(np.clip(np.nan_to_num(value) * SHADES, 0, SHADES - 1))


def _noise_cells(source: Source, kind: str) -> list[Cell]:
    names = [f"noise.{kind}.{level}" for level in SEVERITIES]
    return [source.facts.cell(name, detail=_flips(source, name)) for name in names]


def _flips(source: Source, name: str) -> str:
    return source.facts.text(f"{name}.flips") if f"{name}.flips" in source.facts else ""
