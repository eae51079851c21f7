"""The benchmark against the libraries: its measures can fail, and its table is complete."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import libraries
import library_calls as calls
import library_subject
import numpy as np
import pytest
import torch
from libraries import Row, Spent
from library_subject import Plain, Subject
from torch import nn
from toys import FunctionalRelu, classified, pictures, seeded

from reportgen.attribution import METHODS
from reportgen.config import Config

# Eight steps divide the pixels, so that RISE's steps are reportgen's.
COUNTS = {"lime_samples": 40, "shap_evals": 20, "ig_steps": 5, "curve_steps": 8}
CONFIG = Config(segmentation="grid", segments=9, seed=3, **COUNTS)
SHAPE = (3, 16, 16)
ALL = {**libraries.MAPS, **libraries.CURVES}
# Compiling what cuts pictures into single pixels takes seconds: only the slow test does.
QUICK = [key for key in ALL if key != "shap-pixels"]


def network() -> nn.Module:
    """Return a network whose last feature map is the output of its fourth module."""
    layers = nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Spare the tests what takes seconds and decides nothing: compiling shap, and collecting."""
    from shap.explainers import _partition
    from shap.utils import _clustering, _masked_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libraries, "gc", SimpleNamespace(collect=lambda: 0))
        for module in (_partition, _clustering, _masked_model):
            for name, function in list(vars(module).items()):
                patch.setattr(module, name, getattr(function, "py_func", function))
        yield


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    """Yield a toy and a picture of bytes, ready for both sides, with four maps."""
    pixels = (pictures(1)[0] * 255).round() / 255
    with classified(seeded(network), SHAPE) as classifier:
        plain = Plain(seeded(network), classifier)
        ready = library_subject.ready(classifier, plain, pixels, CONFIG)
        keys = [key for key in libraries.MAPS if key in METHODS]
        maps = {key: torch.from_numpy(calls.own_map(key, ready, CONFIG)) for key in keys}
        yield replace(ready, maps=maps)


@pytest.fixture(scope="module")
def rows(subject: Subject) -> dict[str, Row]:
    """Return the rows of all stages but one."""
    return {key: libraries.measure(ALL[key], subject, CONFIG, 0)[0] for key in QUICK}


def test_the_measures_can_fail() -> None:
    values = np.random.default_rng(0).normal(size=(8, 8))
    assert libraries.agreement(values, values) == pytest.approx(1)
    assert libraries.difference(values, 3 * values) < 1e-12
    one_off = values.copy()
    one_off[2, 2] += 1
    assert libraries.agreement(values, values[::-1]) < 0.5
    assert libraries.difference(values, one_off) > 0.1
    assert math.isnan(libraries.agreement(values, np.zeros((8, 8))))
    assert libraries.difference(values, np.zeros((8, 8))) == 1


def test_both_sides_agree_on_a_toy(rows: dict[str, Row]) -> None:
    assert {key for key, row in rows.items() if row.falls_short} == set()
    found = {key: row.difference for key, row in rows.items()}
    # lime rounds its fill to bytes; the others round as float32 does.
    assert found.pop("lime") < 0.05
    assert {key for key, value in found.items() if value is None or value > 1e-5} == set()
    assert {key for key, row in rows.items() if row.itself is not None} == {"shap", "lime"}


@pytest.mark.parametrize("key", QUICK)
def test_a_planted_error_falls_short(subject: Subject, key: str) -> None:
    stage = ALL[key]
    wrong = replace(stage, ours=lambda *given: stage.ours(*given)[..., ::-1].copy())
    assert libraries.measure(wrong, subject, CONFIG, 1)[0].falls_short


def test_passes_are_counted(rows: dict[str, Row]) -> None:
    found = {key: (row.library.forward, row.library.backward) for key, row in rows.items()}
    maps, points = 4, CONFIG.curve_steps + 1
    assert found == {
        "gradcam": (1, 1),
        "shap": (CONFIG.shap_evals, 0),
        "lime": (CONFIG.lime_samples, 0),
        "integrated-gradients": (CONFIG.ig_steps + 2, CONFIG.ig_steps),
        "deletion": (maps * points, 0),
        "insertion": (maps * points, 0),
    }
    assert rows["lime"].ours.forward == CONFIG.lime_samples
    assert rows["deletion"].ours.forward == maps * (points - 2) + 2


def test_steps_that_do_not_divide_the_pixels_are_compared_at_the_same_shares(
    subject: Subject,
) -> None:
    config = CONFIG.model_copy(update={"curve_steps": 7})
    row, ours = libraries.measure(libraries.CURVES["deletion"], subject, config, 0)
    assert ours.shape == (4, 8)
    assert row.agreement is not None
    assert 0.9 < row.agreement < 1


def test_a_layer_that_no_module_gives_is_refused() -> None:
    with classified(seeded(FunctionalRelu), SHAPE) as classifier:
        plain = Plain(seeded(FunctionalRelu), classifier)
        with pytest.raises(SystemExit, match="--layer"):
            library_subject.ready(classifier, plain, pictures(1)[0], CONFIG)
        named = CONFIG.model_copy(update={"layer": "conv"})
        ready = library_subject.ready(classifier, plain, pictures(1)[0], named)
    assert ready.module == "network.conv"


def test_the_table_is_complete(rows: dict[str, Row]) -> None:
    lines = list(libraries.table(list(rows.values())))
    width = lines[0].count("|")
    body = [line for line in lines[2:] if line.startswith("|")]
    assert [line.count("|") for line in body] == [width] * (len(rows) + 1)
    assert [line.split(" | ")[0][2:] for line in body[:-1]] == [r.title for r in rows.values()]
    assert lines[-1].endswith("none.")
    short = replace(rows["lime"], agreement=0.5)
    assert "LIME" in list(libraries.table([short]))[-1]


def test_the_total_is_of_the_rows_that_count() -> None:
    spent = Spent(2.0, 3.0, 10, 1)
    counted = Row("one", True, spent, spent, compiling=5.0)
    whole = libraries.total([counted, replace(counted, counted=False), counted])
    assert whole.library == whole.ours == Spent(4.0, 6.0, 20, 2)
    assert whole.compiling == 10.0


def test_rows_are_json(rows: dict[str, Row]) -> None:
    constant = replace(rows["gradcam"], agreement=math.nan)
    assert constant.falls_short
    content = json.loads(json.dumps(libraries.as_json(constant), allow_nan=False))
    assert content["agreement"] is None
    assert content["library"]["forward"] == 1


@pytest.mark.slow
def test_all_stages_make_a_row(subject: Subject) -> None:
    found = list(libraries.measured(subject, CONFIG))
    assert [row.title for row in found] == [stage.title for stage in ALL.values()]
    assert [row.title for row in found if row.compiling] == [ALL["shap-pixels"].title]
    assert not any(row.falls_short for row in found)


def test_random_weights_are_those_of_the_seed() -> None:
    name = "torchvision:squeezenet1_1"
    first, again, other = (
        library_subject.opened_model(name, True, Config(seed=seed))[0] for seed in (0, 0, 1)
    )
    weights = [next(each.network.parameters()) for each in (first, again, other)]
    assert first.architecture == name
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
