"""Which tables stand in a report. Records decide the rows; facts are the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reportgen.facts import LAYER_CHECKS, fact_name
from reportgen.records import Attribution, ClassScore, Prediction, Quantity
from reportgen.render.document import DASH, Block, Cell, Heading, Row, Stated, Strip, Table
from reportgen.render.figures import NOISES, Source
from reportgen.render.lookup import ARROWS

SEVERITIES = range(1, 6)
TOP = 5
FIDELITY = {
    "deletion_auc": "Deletion AUC",
    "insertion_auc": "Insertion AUC",
    "sensitivity": "Max-sensitivity",
    "self_check": "Self-check",
}
PLACE = {
    "location": "Location",
    "area_share": "Relevance in top pixels",
    "resolution": "Resolution",
}
IDENTITY = {
    "model.name": "Model",
    "model.format": "File format",
    "model.architecture": "Architecture",
    "model.parameters": "Parameters",
    "model.classes": "Classes",
    "model.head": "Head",
    "model.device": "Device",
    "image.name": "Picture",
    "image.size": "Picture size",
    "image.input_size": "Input size",
}
LAYER = {
    "name": "Name",
    "grid": "Places, down x across",
    "layout": "Order of the axes",
    "channels": "Channels",
    **LAYER_CHECKS,
}
ROTATION = {
    "positive": ("Positive angles", "rotation.positive", "rotation.positive.class"),
    "negative": ("Negative angles", "rotation.negative", "rotation.negative.class"),
    "first": ("The first of both", "rotation.first", "rotation.first_class"),
}
SHADES = 6
WIDEST_HALF = 6
WIDEST = 6


def top_classes(source: Source) -> Table:
    """Return the first five classes with their probabilities."""
    rows = (_class_row(source, i, score) for i, score in enumerate(_top(source), start=1))
    kind = "labels" if source.several else "classes"
    caption = f"The {kind} with the highest probability."
    return Table(caption, ("Rank", "Class", "Probability"), tuple(rows), "half ranks")


def identity(source: Source) -> Table:
    """Return what the model and the picture are."""
    rows = (Row(title, (source.facts.cell(name),)) for name, title in IDENTITY.items())
    return Table("Model and picture.", ("What", "Value"), tuple(rows), "half list")


def strip(source: Source, attribution: Attribution) -> Strip:
    """Return the numbers of one method, each beside the same number of the random control."""
    method = attribution.method
    names = {**PLACE, **({"layer": "Layer"} if f"{method}.layer" in source.facts else {})}
    found = (_stated(source, method, key, title) for key, title in {**FIDELITY, **names}.items())
    return Strip(tuple(found))


def layer(source: Source, attribution: Attribution) -> Table | None:
    """Return the self-test of the layer and of the runner-up, with the first map that needs it."""
    looking = [a for a in source.report.attributions if "layer" in a.settings]
    if "layer.name" not in source.facts or looking[:1] != [attribution]:
        return None
    roles = {"Layer looked at": "layer", "Runner-up": "layer.runner_up"}
    shown = {title: role for title, role in roles.items() if f"{role}.name" in source.facts}
    rows = (
        Row(title, tuple(source.facts.cell(f"{role}.{key}") for role in shown.values()))
        for key, title in LAYER.items()
    )
    caption = "Self-test of the layer that class activation maps look at."
    return Table(caption, ("Check", *shown), tuple(rows), "whole")


def comparison(source: Source) -> Table:
    """Return where the map of each method lies and how fine it is."""
    rows = (
        Row(a.card.title, tuple(source.facts.cell(f"{a.method}.{key}") for key in PLACE))
        for a in source.report.attributions
    )
    caption = "Where each map lies and how fine it is."
    return Table(caption, ("Method", *PLACE.values()), tuple(rows), "whole")


def fidelity(source: Source) -> Table:
    """Return the scores of the methods, and those of the control maps below them."""
    methods = [a.method for a in source.report.attributions]
    rows = [_fidelity_row(source, subject, quiet=False) for subject in methods]
    rows += [_fidelity_row(source, subject, quiet=True) for subject in source.controls]
    subjects = [*methods, *source.controls]
    columns = (_headed(source, title, key, subjects) for key, title in FIDELITY.items())
    return Table(
        "Fidelity of each map; a map is evidence where it does better than the controls. "
        "↓ lower is better, ↑ higher is better. Below a value: how many smooth random maps it is "
        "better than, and its distance from their mean in standard deviations (z).",
        ("Map", *columns),
        tuple(rows),
        "whole",
    )


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
    return [Heading(category[:1].upper() + category[1:]), *found] if found else []


def _numbers(
    source: Source, category: str, quantities: list[Quantity], methods: list[str]
) -> Table | None:
    rows = [row for quantity in quantities for row in _number_rows(source, quantity, methods)]
    if not rows:
        return None
    kinds = tuple(source.facts.cell(f"{method}.granularity") for method in methods)
    return Table(
        f"{category[:1].upper()}{category[1:]}. ↓ lower is better, ↑ higher is better. Below a "
        "value: how many of the control maps it is better than, and its distance from their mean "
        "in standard deviations (z). Compare maps of one granularity only.",
        ("Number", *(source.title(method) for method in methods)),
        (Row("Granularity", kinds), *rows),
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
    rows = [Row(f"{quantity.title} {arrow}".strip(), cells)]
    if any(name in source.facts for name in verdicts):
        rows.append(Row("Verdict on it", tuple(source.facts.cell(name) for name in verdicts)))
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
    columns = ("Method", *(str(i + 1) for i in _range(titles)))
    return Table(
        caption, columns, rows, "half matrix" if len(rows) <= WIDEST_HALF else "dense matrix"
    )


def rotation(source: Source) -> Table:
    """Return the angles at which the prediction first changes, and what it changes to."""
    rows = (
        Row(title, tuple(source.facts.cell(name) for name in names))
        for title, *names in ROTATION.values()
    )
    step = source.facts.text("rotation.step")
    changed = "whether the label holds" if source.several else "the top class"
    caption = f"Smallest rotation that changes {changed}. Grid of the search: {step}."
    new = "New answer" if source.several else "New top class"
    columns = ("Direction", "Smallest angle", new)
    return Table(caption, columns, tuple(rows), "whole")


def noise(source: Source) -> Table:
    """Return the share of probability kept for each noise and severity, with the flips."""
    rows = (Row(title, tuple(_noise_cells(source, kind))) for kind, title in NOISES.items())
    return Table(
        _NOISE_OF_LABEL if source.several else _NOISE_OF_CLASS,
        ("Noise", *(f"Severity {level}" for level in SEVERITIES)),
        tuple(rows),
        "right whole",
    )


_NOISE_OF_CLASS = (
    "Share of the top class's probability that is kept under noise; below it, the share of noisy "
    "copies whose top class is another."
)
_NOISE_OF_LABEL = (
    "Share of the label's probability that is kept under noise; below it, the share of noisy "
    "copies on which it is on the other side of the threshold."
)


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
        return {contrast.first.index: "why", contrast.second.index: "and not"}.get(score.index, "")
    return "explained class" if score.index == prediction.target.index else ""


def _stated(source: Source, method: str, key: str, title: str) -> Stated:
    name = f"{method}.{key}"
    direction = source.facts.arrow(name)
    rank = _rank(source, name)
    yardstick = f"better than {rank}" if rank else ""
    return Stated(
        f"{title} {direction}".strip(), source.facts.cell(name), _words(direction), yardstick
    )


def _words(arrow: str) -> str:
    return next((words for words, sign in ARROWS.items() if sign == arrow), "")


def _fidelity_row(source: Source, subject: str, quiet: bool) -> Row:
    names = [f"{subject}.{key}" for key in FIDELITY]
    cells = tuple(source.facts.cell(name, detail=_rank(source, name)) for name in names)
    return Row(source.title(subject), cells, quiet=quiet)


def _headed(source: Source, title: str, key: str, subjects: Sequence[str]) -> str:
    arrow = source.facts.arrow(*(f"{subject}.{key}" for subject in subjects))
    return f"{title} {arrow}".strip()


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
