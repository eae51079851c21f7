"""The table of what reportgen could explain: Markdown from the rows of coverage.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_HEADS = (
    "architecture", "format", "methods", "layer", "grid", "self-test of the layer", "difference",
    "rank", "seconds", "or why not",
)  # fmt: skip
_NOT_MADE = ("building", "saving")
_DONE = "done"
CLOSE = 1e-4
ALIKE = 0.999


def table(rows: Sequence[Any], machine: str) -> str:
    """Return the summary and the table of all rows, as Markdown."""
    parts = ["# Coverage: what opens and is explained, with no flag", "", machine, "", *_intro()]
    parts += ["", *_summary(rows), "", *_reasons(rows)]
    for group in dict.fromkeys(row.group for row in rows):
        parts += ["", f"## {group}", "", *_rows([row for row in rows if row.group == group])]
    return "\n".join(parts) + "\n"


def _intro() -> Iterator[str]:
    yield (
        "Each network has random weights (those among the assets are real; a head that begins "
        "with zeros is drawn too), batch statistics of four parts of a photograph, and is "
        "saved, opened by its path alone and explained. The first format of each gets the profile "
        "quick with its five methods (where the table says 3, three of them and their agreement: "
        "--brief), the others Grad-CAM. Each is compared with the network itself under the same "
        "preprocessing: the largest difference of the probabilities "
        "of its first classes (where that is large, beside it how far the network's own are from "
        "those that it gives in float64), and for further formats the rank correlation of both "
        "Grad-CAM maps (where that is low, beside it how alike the network's own map is to the one "
        "it gives with each weight moved by its last digit). Those of transformers have at most "
        "four layers. Seconds are of the whole report with HTML. What cannot be built here, and a "
        "format that PyTorch's own exporter does not make of a network, is not counted."
    )


def _summary(rows: Sequence[Any]) -> Iterator[str]:
    yield (
        "| group | format | saved | explained | share explained | with Grad-CAM "
        f"| probabilities within {CLOSE:g} | map with rank {ALIKE} or more |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for group, format in dict.fromkeys((row.group, row.format) for row in rows):
        chosen = [r for r in rows if (r.group, r.format) == (group, format)]
        saved = [r for r in chosen if r.stage not in _NOT_MADE]
        done = [r for r in saved if r.stage == _DONE]
        cams = sum("gradcam" in r.methods for r in done)
        share = f"{len(done) / len(saved):.1%}" if saved else ""
        close = _share([r.difference <= CLOSE for r in done if r.difference is not None])
        alike = _share([r.rank >= ALIKE for r in done if r.rank is not None])
        counts = f"{len(saved)} | {len(done)} | {share} | {cams} | {close} | {alike}"
        yield f"| {group} | {format} | {counts} |"


def _share(held: Sequence[bool]) -> str:
    return f"{sum(held)} of {len(held)}" if held else ""


def _reasons(rows: Sequence[Any]) -> Iterator[str]:
    failed = Counter(_short(r.reason) for r in rows if r.stage not in (_DONE, *_NOT_MADE))
    if failed:
        yield "Reasons why a network was not explained:"
        yield ""
        yield from (f"- {count} x {reason}" for reason, count in failed.most_common())


def _rows(rows: Iterable[Any]) -> Iterator[str]:
    yield f"| {' | '.join(_HEADS)} |"
    yield "|" + "---|" * len(_HEADS)
    for row in rows:
        cells = (
            row.name, row.format, _methods(row), row.layer, row.grid, row.layer_test,
            _difference(row),
            _rank(row),
            f"{row.seconds:.0f}" if row.stage == _DONE else "", _why(row),
        )  # fmt: skip
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _methods(row: Any) -> str:
    return str(len(row.methods)) if row.stage == _DONE else ""


def _difference(row: Any) -> str:
    if row.difference is None:
        return ""
    rounding = "" if row.rounding is None else f" (float64: {row.rounding:.1e})"
    return f"{row.difference:.1e}{rounding}"


def _rank(row: Any) -> str:
    if row.rank is None:
        return ""
    own = "" if row.own_rank is None else f" (own: {row.own_rank:.4f})"
    return f"{row.rank:.4f}{own}"


def _why(row: Any) -> str:
    if row.stage in _NOT_MADE:
        return f"not made ({row.stage}): {_short(row.reason)}"
    if row.stage != _DONE:
        return f"{row.stage}: {row.reason}"
    cam = (row.skipped or {}).get("gradcam", "")
    return f"Grad-CAM: {cam}" if cam else ""


def _short(reason: str) -> str:
    return reason if len(reason) <= 160 else reason[:157] + "..."


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
