"""Which figures stand in a report, and what their captions say."""

from __future__ import annotations

from functools import cache

import pytest
from sample_report import sample

from reportgen.render.document import Figure
from reportgen.render.figures import Source, curves_figure
from reportgen.render.lookup import index_facts

CONTROLS = {"Control: smooth random", "Control: edges", "Control: centre"}


@cache
def curves(*left_out: str) -> Figure | None:
    """Return the figure of the curves where some of them were not measured."""
    report, arrays = sample(("gradcam",), (32, 32))
    facts = [f for f in report.facts if not f.name.endswith(_areas(left_out))]
    report = report.model_copy(update={"facts": tuple(facts)})
    kept = {
        name: array
        for name, array in arrays.items()
        if not any(name.startswith(f"curve.{curve}.") for curve in left_out)
    }
    return curves_figure(Source(report, kept, index_facts(report)))


def _areas(curves: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{curve}_auc" for curve in curves)


@pytest.mark.parametrize(
    ("left_out", "said", "unsaid"),
    [("insertion", "deleted", "inserted"), ("deletion", "inserted", "deleted")],
)
def test_a_caption_speaks_of_the_curve_that_there_is(left_out: str, said: str, unsaid: str) -> None:
    both, one = curves("no such curve"), curves(left_out)
    assert both is not None and one is not None
    assert said in both.caption and unsaid in both.caption
    assert said in one.caption and unsaid not in one.caption
    assert (len(both.panels), len(one.panels)) == (2, 1)


@pytest.mark.parametrize("left_out", ["insertion", "deletion", "no such curve"])
def test_control_maps_are_drawn_beside_either_curve(left_out: str) -> None:
    figure = curves(left_out)
    assert figure is not None
    assert {key.label for key in figure.keys} >= CONTROLS


def test_without_curves_there_is_no_figure() -> None:
    assert curves("deletion", "insertion") is None
