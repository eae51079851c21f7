"""The whole line from a model and a picture to a report, on the small example network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_samples import TINY, check_close, numbers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import reportgen
from reportgen.config import Config, load_config
from reportgen.errors import UsageError
from reportgen.records import Report
from reportgen.render.html import to_html

SIGNS = Path(__file__).parents[1] / "examples" / "signs"
MODEL = SIGNS / "signs.pt2"
PICTURE = SIGNS / "pictures" / "stop.png"


@pytest.fixture(scope="module")
def signs() -> reportgen.Explanation:
    """Return a report with every method and metric."""
    return reportgen.explain(MODEL, PICTURE, TINY)


def test_everything_is_there(signs: reportgen.Explanation) -> None:
    report = signs.report
    assert report.prediction.target.label == "stop"
    assert report.skipped == ()
    assert [a.method for a in report.attributions] == [
        "gradcam", "shap", "lime", "integrated-gradients", "saliency",
    ]  # fmt: skip
    asked = load_config().metrics.split(",")
    # Nobody said where the object is.
    assert [card.key for card in report.metrics] == [m for m in asked if m != "localisation"]
    titles = [section.title for section in report.sections]
    assert titles == [
        "Model summary", "Grad-CAM", "SHAP", "LIME", "Integrated Gradients", "Saliency",
        "Comparison of the methods", "Fidelity metrics", "Robustness metrics",
        "Combined interpretation",
    ]  # fmt: skip
    assert all(section.sentences for section in report.sections)


def test_every_map_is_kept_as_an_array(signs: reportgen.Explanation) -> None:
    for attribution in signs.report.attributions:
        found = signs.arrays[attribution.array]
        assert (found.shape, found.dtype) == ((128, 128), np.float32)
        assert np.isfinite(found.astype(float)).all()
        assert attribution.signed or found.min() >= 0
        assert all(name in signs.arrays for name in attribution.arrays.values())


def test_every_named_fact_exists(signs: reportgen.Explanation) -> None:
    known = {fact.name for fact in signs.report.facts}
    used = {
        name
        for part in (
            *signs.report.findings,
            *(s for p in signs.report.sections for s in p.sentences),
        )
        for name in part.facts
    }
    assert used and used <= known


def test_every_measurement_says_how_it_was_made(signs: reportgen.Explanation) -> None:
    for measurement in signs.report.measurements:
        assert measurement.value is not None or measurement.note
        if measurement.array is not None:
            assert measurement.array in signs.arrays


def test_the_passes_add_up(signs: reportgen.Explanation) -> None:
    passes = {p.stage: (p.forward, p.backward) for p in signs.report.provenance.passes}
    assert passes["prediction"] == (1, 0)
    assert passes["lime"] == (40, 0)
    assert passes["integrated-gradients"] == (6 + 2, 6)
    maps = 5 + 2 + 2 + 20  # methods, fixed controls, random pixels, smooth random maps
    assert passes["deletion"] == (2 + maps * (6 - 1), 0)
    assert passes["agreement"] == (0, 0)
    seconds = dict(signs.report.run.seconds)
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()))
    assert set(passes) == set(seconds)


@pytest.fixture(scope="module")
def again() -> reportgen.Explanation:
    """Return the same report, made once more."""
    return reportgen.explain(MODEL, PICTURE, TINY)


def test_the_same_inputs_give_the_same_bytes(
    signs: reportgen.Explanation, again: reportgen.Explanation, tmp_path: Path
) -> None:
    one = signs.report.model_copy(update={"run": again.report.run})
    for name, explanation in (("one", reportgen.Explanation(one, signs.arrays)), ("two", again)):
        explanation.save(tmp_path / name)
    for file in ("report.json", "maps.npz", "report.html", "report.pdf", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_only_the_run_record_differs_between_two_runs(
    signs: reportgen.Explanation, again: reportgen.Explanation
) -> None:
    one, other = (each.report.model_dump(exclude={"run"}) for each in (signs, again))
    assert one == other


def test_another_seed_gives_other_samples() -> None:
    options = {**TINY, "methods": "lime", "metrics": "location"}
    maps = [reportgen.explain(MODEL, PICTURE, {**options, "seed": seed}) for seed in (0, 1)]
    assert not np.array_equal(maps[0].arrays["map.lime"], maps[1].arrays["map.lime"])


def test_a_report_can_be_saved_and_loaded(signs: reportgen.Explanation, tmp_path: Path) -> None:
    signs.save(tmp_path, formats=("json",))
    loaded = reportgen.load(tmp_path / "report.json")
    assert loaded.report == Report.model_validate_json((tmp_path / "report.json").read_bytes())
    assert loaded.report.model_dump(mode="json") == signs.report.model_dump(mode="json")
    assert loaded.arrays.keys() == signs.arrays.keys()


def test_it_shows_itself_in_a_notebook(signs: reportgen.Explanation) -> None:
    shown = signs._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "Model Explainability Report" in shown
    assert "http://" not in shown and "https://" not in shown


def test_another_target() -> None:
    options = {**TINY, "methods": "saliency", "metrics": "deletion", "target": "YIELD"}
    report = reportgen.explain(MODEL, PICTURE, options).report
    assert (report.prediction.target.label, report.prediction.target_source) == ("yield", "option")
    assert report.prediction.top[0].label == "stop"
    assert any(finding.rule == "other-target" for finding in report.findings)


class Plain(nn.Module):
    """A convolution network that can be told to fail on gradients."""

    def __init__(self, classes: int, gradients: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)
        self.linear = nn.Linear(8, classes)
        self.gradients = gradients

    def forward(self, pictures: Tensor) -> Tensor:
        maps = torch.relu(self.convolution(pictures))
        scores: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return scores if self.gradients else scores.detach()


@pytest.fixture
def plain() -> Iterator[Plain]:
    """Return a network in training mode with gradients, and check that it is left so."""
    torch.manual_seed(0)
    network = Plain(2)
    network.train()
    network.linear.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    yield network
    assert all(module.training for module in network.modules())
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, False]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    hooks = [m for m in network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_a_module_is_left_as_it_was_found(plain: Plain) -> None:
    picture = np.asarray(Image.open(PICTURE))
    report = reportgen.explain(plain, picture, {**TINY, "size": "64"}).report
    assert report.model.format == "module"
    assert report.model.labels.source == "assumed"
    assert {a.method for a in report.attributions} >= {"gradcam", "saliency"}


def test_a_module_is_left_as_it_was_found_after_bad_input(plain: Plain) -> None:
    with pytest.raises(UsageError):
        reportgen.explain(plain, PICTURE, {**TINY, "size": "64", "target": "none"})


def test_a_module_is_left_as_it_was_found_after_a_crash(plain: Plain) -> None:
    def stop(stage: str) -> None:
        if stage == "lime":
            raise RuntimeError("a crash in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        reportgen.explain(plain, PICTURE, {**TINY, "size": "64"}, started=stop)


def test_a_failing_method_does_not_cost_the_others() -> None:
    torch.manual_seed(0)
    network = Plain(2, gradients=False)
    report = reportgen.explain(network, PICTURE, {**TINY, "size": "64"}).report
    skipped = {entry.step: entry.reason for entry in report.skipped}
    assert set(skipped) == {"gradcam", "integrated-gradients", "saliency"}
    assert all(reason and "\n" not in reason for reason in skipped.values())
    assert {a.method for a in report.attributions} == {"lime", "shap"}
    assert any(finding.rule == "skipped" for finding in report.findings)


def test_a_single_logit_names_the_class_that_it_speaks_for(tmp_path: Path) -> None:
    class Logit(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.mean(dim=(1, 2, 3))[:, None] * 0 - 6.64

    labels = tmp_path / "labels.txt"
    labels.write_text("Cat\nDog\n")
    options = {**TINY, "size": "32", "labels": str(labels), "methods": "saliency"}
    report = reportgen.explain(Logit(), PICTURE, {**options, "metrics": "deletion"}).report
    facts = {fact.name: fact.text for fact in report.facts}
    assert (facts["prediction.label"], facts["prediction.probability"]) == ("Cat", "0.9987")


def test_one_channel_and_not_square() -> None:
    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.linear = nn.Linear(6, 3)

        def forward(self, pictures: Tensor) -> Tensor:
            result: Tensor = self.linear(torch.relu(self.convolution(pictures)).mean(dim=(2, 3)))
            return result

    torch.manual_seed(0)
    explanation = reportgen.explain(Grey(), PICTURE, {**TINY, "size": "28x40"})
    assert explanation.report.skipped == ()
    assert explanation.arrays["map.lime"].shape == (28, 40)
    assert len(np.unique(explanation.arrays["segments.lime"])) > 1
    assert "Grad-CAM" in explanation._repr_html_()


class Dark(nn.Module):
    """Scores the red and the green of the picture: both are 0 where it is black."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures[:, :2].mean((2, 3)) * 20


def test_a_map_lies_on_the_picture_where_the_network_looked() -> None:
    picture = np.zeros((60, 160, 3), np.uint8)
    picture[10:20, 100:120, 0] = 255
    options = {
        "methods": "integrated-gradients",
        "metrics": "",
        "ig_baseline": "black",
        "size": "40",
        "mean": "0,0,0",
        "std": "1,1,1",
    }
    explanation = reportgen.explain(Dark(), picture, options)
    placed = explanation.on_picture("integrated-gradients")
    assert (placed.shape, placed.dtype) == ((60, 160), np.float32)
    assert np.isnan(placed[:, :50]).all()
    assert np.isnan(placed[:, 110:]).all()
    assert np.isfinite(placed[:, 50:110]).all()
    rows, columns = np.nonzero(placed > np.nanmax(placed) / 2)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 100, 109)
    with pytest.raises(UsageError, match="no map of 'gradcam'; its maps: integrated-gradients"):
        explanation.on_picture("gradcam")


def test_options_are_checked_once() -> None:
    with pytest.raises(UsageError, match="lime_samples"):
        reportgen.explain(MODEL, PICTURE, {"lime_samples": 0})
    assert isinstance(load_config(), Config)


def arrays_equal(one: Mapping[str, NDArray[Any]], two: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether two sets of arrays are the same to the last bit."""
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_batch_size_changes_nothing_that_is_shown(
    signs: reportgen.Explanation, size: int
) -> None:
    other = reportgen.explain(MODEL, PICTURE, {**TINY, "batch_size": size})
    check_close(numbers(signs.report), numbers(other.report), 1e-4)
    segments = {name: a for name, a in signs.arrays.items() if name.startswith("segments")}
    assert arrays_equal(segments, {name: other.arrays[name] for name in segments})


def test_a_mask_is_recorded_by_name_and_drawn() -> None:
    mask = SIGNS / "masks" / "stop.png"
    options = {**TINY, "methods": "gradcam", "metrics": "localisation", "mask": str(mask)}
    explanation = reportgen.explain(MODEL, PICTURE, options)
    report, arrays = explanation.report, explanation.arrays
    assert report.image.mask is not None
    assert report.image.mask.name == "stop.png"
    assert report.image.mask.sha256 == hashlib.sha256(mask.read_bytes()).hexdigest()
    assert report.image.mask.share == pytest.approx(float(arrays["mask"].mean()))
    assert report.provenance.config["mask"] == "stop.png"
    assert {m.metric for m in report.measurements} >= {"iou_otsu", "roc_auc", "pointing_game"}
    assert "Green line: the marked area." in to_html(report, arrays)


def test_every_measurement_has_its_cost(signs: reportgen.Explanation) -> None:
    made = {p.stage: (p.forward, p.backward) for p in signs.report.provenance.passes}
    costs = {m.metric: m.cost for m in signs.report.measurements}
    assert all(cost is not None for cost in costs.values())
    # Nothing was shared before deletion ran, and the map's own check is part of its stage.
    assert (costs["deletion"].forward, costs["deletion"].backward) == made["deletion"]
    gap = costs["completeness_gap"]
    assert (gap.forward, gap.backward) == made["integrated-gradients"]
    own = costs["sensitivity"].forward - costs["sensitivity"].shared_forward
    assert own < made["sensitivity"][0] < costs["sensitivity"].forward


def test_every_number_of_a_map_stands_among_twenty_random_maps_or_its_card_says_why_not(
    signs: reportgen.Explanation,
) -> None:
    report = signs.report
    methods = {attribution.method for attribution in report.attributions}
    for card in report.metrics:
        keys = {quantity.key for quantity in card.quantities}
        values = [m for m in report.measurements if m.metric in keys and m.subject in methods]
        placed = [m.yardstick for m in values if m.value is not None]
        assert card.controls
        if not card.controls.startswith("none"):
            assert all(yardstick and yardstick.maps >= 20 for yardstick in placed)
