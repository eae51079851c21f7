"""A number becomes text in ``facts/formats.py`` alone, wherever a reader of a report sees it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "reportgen"
FORMATTER = PACKAGE / "facts" / "formats.py"
# Places in a drawing and the numbers at its axes, which are no facts.
DRAWING = PACKAGE / "render" / "charts.py"
TOLD = ("facts", "narrative", "render", "surveys", "findings", "wording.py", "phrases.py")


def told() -> Iterator[Path]:
    """Yield the modules that write what a reader reads, but for the formatter and the drawing."""
    for name in TOLD:
        place = PACKAGE / name
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        yield from (file for file in files if file not in (FORMATTER, DRAWING))


def formatted(source: str) -> list[int]:
    """Return the lines on which numbers are formatted: f"{x:.3f}", "%.3f" % x, format(x, ".3f")."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            found.append(node.lineno)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            found += [node.lineno] if isinstance(node.left, ast.Constant) else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "format":
            found.append(node.lineno)
    return sorted(found)


def test_no_other_module_formats_numbers() -> None:
    found = {f"{path.name}:{n}" for path in told() for n in formatted(path.read_text("utf-8"))}
    assert found == set()


def test_a_number_formatted_elsewhere_is_found() -> None:
    planted = 'a = f"{x:.3f}"\nb = "%.3f" % x\nc = format(x, ".3f")\nd = f"{x}"\n'
    assert formatted(planted) == [1, 2, 3]
    assert formatted(FORMATTER.read_text("utf-8"))
