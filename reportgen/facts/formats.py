"""How numbers are written."""

from __future__ import annotations

from collections.abc import Iterable

from reportgen import phrases
from reportgen.phrases import phrase, retold

_LEVELS = 255
_LONGEST = 6  # as many as a list in a sentence may have


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


def signed(value: float) -> str:
    """Return a number as ``decimal`` does, with a plus where it is above zero as shown."""
    return f"+{decimal(value)}" if value >= 0.0005 else decimal(value)


def deviations(z: float) -> str:
    """Return a distance in standard deviations, with its sign and one decimal."""
    return f"{z:+.1f}" if abs(z) < 1000 else f"{z:+.0e}"


def standing(better: int, maps: int, controls: str) -> str:
    """Return how many control maps a value is better than: "better than 19 of 20 random maps"."""
    ending = "all" if better == maps else "some" if better else "none"
    told = retold("controls", controls)
    return phrase(f"standing.{ending}", better=better, maps=maps, controls=told)


def angle(value: float) -> str:
    """Return an angle with two decimals, without its unit."""
    return f"{value:.2f}"


def degrees(value: float) -> str:
    """Return an angle with two decimals and its unit."""
    return phrase("degrees", value=angle(value))


def whole_degrees(value: float) -> str:
    """Return an angle with its unit, without decimals that say nothing."""
    return phrase("degrees", value=f"{value:g}")


def seconds(value: float) -> str:
    """Return a duration in seconds with one decimal."""
    return phrase("seconds", value=f"{value:.1f}")


def count(value: float) -> str:
    """Return a whole number with thousands set apart."""
    return f"{int(value):,}"


def counted(number: int, things: str) -> str:
    """Return a number of things, by the name of their phrases: "no problems", "1 problem"."""
    return phrases.counted(things, number, count(number))


def levels(value: float) -> str:
    """Return a pixel value in [0, 1] in the levels of a picture of 8 bits: "4 of 255 levels"."""
    return phrase("levels", value=f"{value * _LEVELS:.3g}", all=_LEVELS)


def size(height: int, width: int) -> str:
    """Return a size in pixels as width x height."""
    return f"{width} x {height} px"


def place(across: float, down: float) -> str:
    """Return which ninth of the picture a point lies in, by the name of its phrase.

    Both are shares from the upper left.
    """
    row = ("upper", "middle", "lower")[min(int(down * 3), 2)]
    column = ("left", "centre", "right")[min(int(across * 3), 2)]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def listed(words: Iterable[str]) -> str:
    """Return words as a list: "a", "a and b", "a, b and c"; nothing for none."""
    *most, last = [*words] or [""]
    if not most:
        return last
    return phrase("list", most=", ".join(most), last=last)


def shortlist(words: Iterable[str]) -> str:
    """Return words as a list; of more than six, five and the number of the others."""
    every = [*words]
    if len(every) <= _LONGEST:
        return listed(every)
    kept = _LONGEST - 1
    return listed([*every[:kept], phrase("more", number=len(every) - kept)])


def short(value: float) -> str:
    """Return a number as short as it can be written, such as the end of a range."""
    return f"{value:g}"


def four_digits(values: Iterable[float]) -> str:
    """Return numbers one behind the other, each with four digits."""
    return ", ".join(f"{value:.4g}" for value in values)


def unknown_or(form: str, number: float | None) -> str:
    """Return a count, or the phrase ``form`` where there is no number."""
    return phrase(form) if number is None else count(number)


def interval(value: str, low: str, high: str) -> str:
    """Return a value with the ends of its interval behind it."""
    return phrase("interval", value=value, low=low, high=high)


def spread(mean: float, sd: float) -> str:
    """Return a mean and the standard deviation around it."""
    return f"{decimal(mean)} ± {decimal(sd)}"
