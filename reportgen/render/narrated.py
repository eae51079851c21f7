"""What a report says of the language model that was asked to word it."""

from __future__ import annotations

from urllib.parse import urlsplit

from reportgen.phrases import phrase
from reportgen.records import Narration
from reportgen.render.document import DASH, Block, Cell, Heading, Remark, Row, Table
from reportgen.render.lookup import NARRATION


def narration_lines(narration: Narration | None) -> tuple[str, ...]:
    """Return who wrote the text, in a sentence, and that facts left this machine, if they did."""
    if narration is None:
        return ()
    key = "narration.written" if narration.written else "narration.none"
    line = phrase(
        key,
        model=narration.model,
        mark=phrase("narration.mark"),
        offered=narration.offered,
        written=narration.written,
        refused=narration.refused,
    )
    left = phrase("narration.remote", host=_host(narration))
    return (line, left) if narration.remote else (line,)


def narration_blocks(narration: Narration | None) -> list[Block]:
    """Return the language model, its seed and its sentences in a table, and what went wrong."""
    if narration is None:
        return []
    names = {name: text for name, text in _rows(narration).items() if text}
    first, *others = [
        Row(phrase(f"narration.row.{name}"), (Cell(text),)) for name, text in names.items()
    ]
    rows = (Row(first.header, first.cells, NARRATION), *others)
    columns = (phrase("column.what"), phrase("column.value"))
    return [
        Heading(phrase("narration.heading")),
        Table(phrase("narration.caption"), columns, rows, "list"),
        *(Remark(phrase("narration.failure"), text, True) for text in narration.failures),
    ]


def _rows(narration: Narration) -> dict[str, str]:
    digest = "digest-stated" if narration.address else "digest"
    reasons = ", ".join(f"{reason} {number}" for reason, number in narration.reasons.items())
    return {
        "asked": narration.narrator,
        "model": narration.model,
        digest: narration.digest or phrase("narration.not-stated"),
        "address": narration.address,
        "precision": narration.precision,
        "seed": str(narration.seed),
        "temperature": str(narration.temperature),
        "offered": str(narration.offered),
        "written": str(narration.written),
        "refused": f"{narration.refused} ({reasons})" if reasons else str(narration.refused),
    }


def _host(narration: Narration) -> str:
    return urlsplit(narration.address).hostname or DASH
