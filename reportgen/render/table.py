"""The measurements as a table of comma-separated values, one row a measurement.

Numbers are written so that reading them gives the same numbers. Text that a spreadsheet would take
for a formula is led by an apostrophe, because names of files are anybody's.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from reportgen.records import Measurement, Report

NAME = "table.csv"
COLUMNS = (
    "model", "image", "metric", "subject", "value", "unit", "direction", "low", "high",
    "interval", "z", "percentile", "p", "settings", "note",
)  # fmt: skip
FAILED = "failed"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = tuple[str, ...]


def table_of(report: Report) -> bytes:
    """Return the table of one report, with its header, as UTF-8."""
    return encoded([COLUMNS, *rows_of(report, report.model.name, report.image.name)])


def rows_of(report: Report, model: str, image: str) -> Iterator[Row]:
    """Yield one row for each measurement of a report, under these names."""
    for measurement in report.measurements:
        yield (_safe(model), _safe(image), *_cells(measurement))


def failed_row(model: str, image: str, reason: str) -> Row:
    """Return the row of a picture that has no report: the metric "failed", the reason as note."""
    empty = ("",) * (len(COLUMNS) - 4)
    return (_safe(model), _safe(image), FAILED, *empty, _safe(reason))


def encoded(rows: Iterable[Row]) -> bytes:
    """Return rows as lines of UTF-8; a half surrogate pair becomes a question mark."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", errors="replace")


def _cells(measurement: Measurement) -> Row:
    low, high = measurement.interval or (None, None)
    yardstick = measurement.yardstick
    return (
        _safe(measurement.metric),
        _safe(measurement.subject),
        _number(measurement.value),
        _safe(measurement.unit),
        measurement.direction,
        _number(low),
        _number(high),
        _safe(measurement.interval_kind),
        _number(yardstick.z if yardstick else None),
        _number(yardstick.percentile if yardstick else None),
        _number(yardstick.p if yardstick else None),
        json.dumps(dict(measurement.settings), sort_keys=True) if measurement.settings else "",
        _safe(measurement.note),
    )


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
