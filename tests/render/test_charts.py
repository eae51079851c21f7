"""Charts: deterministic, untouched by the user's settings, and true to the curves."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from reportgen.render import charts
from reportgen.render.charts import HALF, Pen, Trace, control_pen, highest, method_pen
from reportgen.render.pictures import coloured

LINE = "{http://www.w3.org/2000/svg}path"


def svg(address: str) -> str:
    kind, _, content = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def trace(rows: int = 1, colour: str = "#0072b2") -> Trace:
    fractions = np.linspace(0, 1, 5)
    return Trace(np.vstack([fractions, *[fractions / (i + 2) for i in range(rows)]]), Pen(colour))


def drawn_lines(image: str, colour: str) -> int:
    paths = ElementTree.fromstring(image).iter(LINE)
    return sum(f"stroke: {colour}" in path.get("style", "") for path in paths)


def test_each_row_of_a_curve_is_a_line() -> None:
    traces = [trace(3, "#5c6166"), trace(1, "#0072b2")]
    image = svg(charts.fraction_chart(traces, 0.5, "share"))
    assert drawn_lines(image, "#5c6166") == 3
    assert drawn_lines(image, "#0072b2") == 1


def test_a_flip_is_a_red_rule() -> None:
    curve = Trace(np.array([[-180.0, 0, 180], [0.1, 0.9, 0.1]]), method_pen(0))
    assert drawn_lines(svg(charts.rotation_chart(curve, [41.2, -12], HALF)), "#a4161a") == 2
    assert drawn_lines(svg(charts.rotation_chart(curve, [], HALF)), "#a4161a") == 0


@pytest.mark.parametrize(
    ("signed", "ends"), [(True, ["−0.25", "0", "0.25"]), (False, ["0", "0.125", "0.25"])]
)
def test_the_colour_bar_names_its_limits(signed: bool, ends: list[str]) -> None:
    values = np.tile(np.array([[0.25, -0.25]], np.float32), (10, 10))
    image = svg(charts.colour_bar(coloured(values, signed)))
    assert re.findall(r"<text[^>]*>([^<]+)</text>", image) == [e.replace("−", "-") for e in ends]


def test_the_same_curve_gives_the_same_bytes_without_a_date() -> None:
    one, other = (charts.severity_chart([trace(2)]) for _ in range(2))
    assert one == other
    assert one != charts.severity_chart([trace(1)])
    assert "<dc:date" not in svg(one)
    assert "<dc:creator" not in svg(one)


def test_settings_of_the_user_change_nothing_and_stay() -> None:
    before = charts.fraction_chart([trace()], 1, "share")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert charts.fraction_chart([trace()], 1, "share") == before
        assert matplotlib.rcParams["font.size"] == 30


def test_methods_are_told_apart_without_colour() -> None:
    pens = [method_pen(index) for index in range(35)]
    assert len({(pen.colour, pen.dashes) for pen in pens}) == 35
    assert len({pen.dashes for pen in pens[:5]}) == 5
    assert len({control_pen(index).dashes for index in range(4)}) == 4


def test_dashes_of_the_legend_are_those_of_the_line() -> None:
    assert Pen("#000000", (5, 1.5), 2.0).svg_dash == "10 3"
    assert Pen("#000000").svg_dash == ""


def test_the_highest_point_makes_room_for_all() -> None:
    flat = Trace(np.array([[0, 1], [0.2, np.nan]]), Pen("#000000"))
    assert highest([flat], [trace()]) == 0.5
    assert highest([flat]) == 0.2
    assert highest([]) == 0
