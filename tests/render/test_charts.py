"""Charts: deterministic, untouched by the user's settings, and true to the curves."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reportgen.render import charts
from reportgen.render.charts import HALF, Pen, Trace, control_pen, highest, method_pen
from reportgen.render.pictures import COLOURS, coloured

LINE = "{http://www.w3.org/2000/svg}path"


def svg(address: str) -> str:
    kind, _, content = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def texts(image: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", image)


def trace(rows: int = 1, colour: str = "#0072b2") -> Trace:
    fractions = np.linspace(0, 1, 5)
    return Trace(np.vstack([fractions, *[fractions / (i + 2) for i in range(rows)]]), Pen(colour))


def drawn_lines(image: str, colour: str) -> list[str]:
    """Return the lines in a colour, each from its "M" to the next."""
    paths = ElementTree.fromstring(image).iter(LINE)
    found = "".join(path.attrib["d"] for path in paths if path.get("stroke") == colour)
    return re.findall("M[^M]+", found)


def points(line: str) -> np.ndarray:
    return np.array([pair.split() for pair in re.split("[ML]", line) if pair], float)


def test_each_row_of_a_curve_is_a_line() -> None:
    traces = [trace(3, "#5c6166"), trace(1, "#0072b2")]
    image = svg(charts.fraction_chart(traces, 0.5, "share"))
    assert len(drawn_lines(image, "#5c6166")) == 3
    assert len(drawn_lines(image, "#0072b2")) == 1


def library_places(curve: np.ndarray, sheet: charts.Sheet, top: float) -> np.ndarray:
    """Return where matplotlib puts the points of a curve, in points from the top left corner."""
    figure = Figure(figsize=(sheet.width, sheet.height), dpi=72)
    across, up = sheet.width - sheet.left - sheet.right, sheet.height - sheet.bottom - sheet.top
    axes = figure.add_axes(
        (sheet.left / sheet.width, sheet.bottom / sheet.height, across / sheet.width,
         up / sheet.height)
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, min(top * 1.06, 1.02)))
    places = axes.transData.transform(curve.T)
    return np.array(places * [1, -1] + [0, 72 * sheet.height])


@pytest.mark.parametrize(("top", "same"), [(0.7, True), (0.71, False)])
def test_a_line_lies_where_a_plotting_library_puts_it(top: float, same: bool) -> None:
    curve = np.array([[0, 0.2, 0.55, 1], [0.7, 0.31, 0.4, 0.01]])
    (line,) = drawn_lines(
        svg(charts.fraction_chart([Trace(curve, Pen("#123456"))], 0.7, "x")), "#123456"
    )
    # Places are written to a hundredth of a point.
    assert np.allclose(points(line), library_places(curve, HALF, top), atol=0.006) == same


def test_a_line_is_interrupted_where_a_number_is_missing() -> None:
    curve = np.array([[0, 0.25, 0.5, 0.75, 1], [0.5, 0.4, np.nan, 0.2, 0.1]])
    image = svg(charts.fraction_chart([Trace(curve, Pen("#123456"))], 0.5, "x"))
    assert [len(points(line)) for line in drawn_lines(image, "#123456")] == [2, 2]
    assert "nan" not in image


@pytest.mark.parametrize(
    ("top", "numbers"),
    [
        (0.9, ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        (0.05, ["0.00", "0.01", "0.02", "0.03", "0.04", "0.05"]),
        (0.02, ["0.0", "0.5", "1.0", "1.5", "2.0"]),
        (2e-5, ["0.0", "0.5", "1.0", "1.5", "2.0"]),
    ],
)
def test_the_numbers_of_an_axis_are_round(top: float, numbers: list[str]) -> None:
    image = svg(charts.fraction_chart([], top, "x"))
    assert texts(image)[6:-2] == numbers


@pytest.mark.parametrize(
    ("top", "name"), [(0.9, "probability"), (0.02, "probability (1e\u22122)"),
                      (2e-5, "probability (1e\u22125)"), (2e-12, "probability (1e\u221212)")]
)  # fmt: skip
def test_the_power_of_small_numbers_stands_with_the_name_of_their_axis(
    top: float, name: str
) -> None:
    assert texts(svg(charts.fraction_chart([], top, "x")))[-1] == name


def test_the_angles_have_their_sign() -> None:
    curve = Trace(np.array([[-180.0, 0, 180], [0.1, 0.9, 0.1]]), method_pen(0))
    assert "\u2212150" in texts(svg(charts.rotation_chart(curve, [], charts.WIDE)))


def test_every_severity_has_a_dot_and_a_number() -> None:
    severities = np.vstack([np.arange(1, 6), [1, 0.8, 0.6, np.nan, 0.2]])
    image = svg(charts.severity_chart([Trace(severities, method_pen(0))]))
    assert image.count("<circle") == 4
    assert texts(image)[:5] == ["1", "2", "3", "4", "5"]


def test_a_flip_is_a_red_rule() -> None:
    curve = Trace(np.array([[-180.0, 0, 180], [0.1, 0.9, 0.1]]), method_pen(0))
    rules = drawn_lines(svg(charts.rotation_chart(curve, [41.2, -12], HALF)), "#a4161a")
    assert len(rules) == 2
    assert drawn_lines(svg(charts.rotation_chart(curve, [], HALF)), "#a4161a") == []


@pytest.mark.parametrize(
    ("signed", "ends"), [(True, ["−0.25", "0", "0.25"]), (False, ["0", "0.125", "0.25"])]
)
def test_the_colour_bar_names_its_limits(signed: bool, ends: list[str]) -> None:
    values = np.tile(np.array([[0.25, -0.25]], np.float32), (10, 10))
    image = svg(charts.colour_bar(coloured(values, signed)))
    assert texts(image) == [e.replace("−", "-") for e in ends]


@pytest.mark.parametrize("signed", [True, False])
def test_the_colour_bar_has_the_colours_of_the_map(signed: bool) -> None:
    values = np.tile(np.array([[0.25, -0.25]], np.float32), (10, 10))
    image = svg(charts.colour_bar(coloured(values, signed)))
    (content,) = re.findall(r'href="data:image/png;base64,([^"]+)"', image)
    bar = np.asarray(Image.open(BytesIO(base64.b64decode(content))).convert("RGB"))
    assert bar.shape == (12, 216, 3)
    expected = matplotlib.colormaps[COLOURS[signed]](np.linspace(0, 1, 216), bytes=True)[:, :3]
    assert (bar == expected).all()
    assert not (bar[:, ::-1] == expected).all()


def test_the_same_curve_gives_the_same_bytes() -> None:
    one, other = (charts.severity_chart([trace(2)]) for _ in range(2))
    assert one == other
    assert one != charts.severity_chart([trace(1)])


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
