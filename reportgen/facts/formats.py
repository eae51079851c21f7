"""How numbers are written."""

from __future__ import annotations

from collections.abc import Iterable

_LEVELS = 255


def percent(value: float) -> str:
    """Return a share as a percentage, with a decimal near 0 and 1.

    Never "0.0%" or "100%" for a share that is not.
    """
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    near_an_end = 0 < abs(value) < 0.0995 or 0.995 <= value < 1
    return f"{100 * value:.{1 if near_an_end else 0}f}%"


def probability(value: float) -> str:
    """Return a probability with four decimals; never "1.0000" or "0.0000" for one that is not."""
    if 0.99995 <= value < 1:
        return ">0.9999"
    if 0 < value < 0.00005:
        return "<0.0001"
    return f"{value:.4f}"


def decimal(value: float) -> str:
    """Return a number with three decimals; never "0.000" for one that is not 0."""
    if 0 < abs(value) < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    return f"{value:.3f}"


def deviations(z: float) -> str:
    """Return a distance in standard deviations, with its sign and one decimal."""
    return f"{z:+.1f}" if abs(z) < 1000 else f"{z:+.0e}"


def standing(better: int, maps: int, controls: str) -> str:
    """Return how many control maps a value is better than: "better than 19 of 20 random maps"."""
    share = f"all {maps}" if better == maps else f"{better or 'none'} of {maps}"
    return f"better than {share} {controls}"


def angle(value: float) -> str:
    """Return an angle with two decimals, without its unit."""
    return f"{value:.2f}"


def degrees(value: float) -> str:
    """Return an angle with two decimals and its unit."""
    return f"{angle(value)} degrees"


def seconds(value: float) -> str:
    """Return a duration in seconds with one decimal."""
    return f"{value:.1f} s"


def count(value: float) -> str:
    """Return a whole number with thousands set apart."""
    return f"{int(value):,}"


def counted(number: int, one: str, several: str) -> str:
    """Return a number of things: "no problems", "1 problem", "2 problems"."""
    return f"{count(number) if number else 'no'} {one if number == 1 else several}"


def levels(value: float) -> str:
    """Return a pixel value in [0, 1] in the levels of a picture of 8 bits: "4 of 255 levels"."""
    return f"{value * _LEVELS:.3g} of {_LEVELS} levels"


def size(height: int, width: int) -> str:
    """Return a size in pixels as width x height."""
    return f"{width} x {height} px"


def place(across: float, down: float) -> str:
    """Return which ninth of the picture a point lies in; both are shares from the upper left."""
    row = ("upper", "middle", "lower")[min(int(down * 3), 2)]
    column = ("left", "centre", "right")[min(int(across * 3), 2)]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def listed(words: Iterable[str]) -> str:
    """Return words as a list: "a", "a and b", "a, b and c"; nothing for none."""
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last
