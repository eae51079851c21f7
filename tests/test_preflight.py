"""What a report will cost, told before: passes as counted, batches that fit into memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from toys import Normalised, as_opened, hints, pictures, seeded

import reportgen
from reportgen import preflight
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.kept_tensors import room_to_keep
from reportgen.classifier.memory import Footprint
from reportgen.config import Config
from reportgen.errors import ModelError, NotApplicable, UsageError
from reportgen.image import open_image
from reportgen.outlook import lasting, line, table
from reportgen.pipeline import foresee, made_ready, make_report
from reportgen.preflight import Forecast, Speed, Step
from reportgen.records import Report
from reportgen.work import Work

SHAPE = (3, 16, 16)
# Their number of passes does not depend on the picture.
EXACT = {
    "methods": "gradcam,lime,saliency,occlusion,scorecam",
    "metrics": "deletion,insertion,confidence,noise,sensitivity,random-logit",
    "device": "cpu",
    "segments": 16,
    "profile": "quick",
}


def picture() -> NDArray[np.float32]:
    found: NDArray[np.float32] = pictures(1)[0].permute(1, 2, 0).numpy()
    return found


def config(**options: Any) -> Config:
    return Config(**{**EXACT, **options})


def told(**options: Any) -> tuple[Report, list[Forecast]]:
    heard: list[Forecast] = []
    opened, given = as_opened(seeded(Normalised)), hints(SHAPE, "softmax")
    report, _ = make_report(
        opened, given, open_image(picture()), config(**options), foreseen=heard.append
    )
    return report, heard


def check_foreseen(report: Report, found: Forecast) -> None:
    """Check each step's passes against those that were counted."""
    counted = {p.stage: Work(p.forward, p.backward) for p in report.provenance.passes}
    looking = {"prediction", "pre-flight"}
    assert {step.name for step in found.steps} == counted.keys() - looking
    for step in found.steps:
        assert step.work == counted[step.name], step.name


def test_the_passes_of_every_step_are_foreseen() -> None:
    # The layer is found before the work starts, to know its channels.
    report, (found,) = told(methods="lime,saliency,occlusion")
    check_foreseen(report, found)
    assert found.work.forward > 300


def test_a_wrong_forecast_is_seen() -> None:
    report, (found,) = told(methods="lime,saliency")
    wrong = Step("lime", Work(found.methods[0].work.forward + 1), 0.0)
    with pytest.raises(AssertionError, match="lime"):
        check_foreseen(report, Forecast((wrong, *found.methods[1:]), found.metrics, "cpu", 1, None))


def test_the_search_for_the_layer_is_foreseen_though_it_is_made_first() -> None:
    report, (found,) = told()
    counted = {p.stage: Work(p.forward, p.backward) for p in report.provenance.passes}
    planned = {step.name: step.work for step in found.steps}
    search = planned["gradcam"] + counted["gradcam"] * -1
    assert search.forward > 30
    assert search.backward == 2  # of the class explained and of another
    assert planned["scorecam"] == counted["scorecam"] == Work(7)
    # The search, one pass that reads the channels, and eight each way for the speed.
    assert counted["pre-flight"] == search + Work(1 + 8 + 8, 8)


def test_nothing_is_measured_for_who_does_not_listen() -> None:
    opened, given = as_opened(seeded(Normalised)), hints(SHAPE, "softmax")
    report, _ = make_report(opened, given, open_image(picture()), config())
    assert "pre-flight" not in [p.stage for p in report.provenance.passes]


def test_seconds_are_those_of_the_passes() -> None:
    speed = Speed(forward=0.1, both=0.5)
    assert speed.seconds(Work(10)) == pytest.approx(1.0)
    assert speed.seconds(Work(10, 4)) == pytest.approx(6 * 0.1 + 4 * 0.5)
    assert speed.seconds(Work(4, 4)) == pytest.approx(4 * 0.5)
    assert speed.seconds(Work()) == 0


def test_a_dry_run_foresees_what_a_run_does() -> None:
    opened, given = as_opened(seeded(Normalised)), hints(SHAPE, "softmax")
    found = foresee(opened, given, open_image(picture()), config())
    _, (heard,) = told()
    assert [(s.name, s.work) for s in found.steps] == [(s.name, s.work) for s in heard.steps]
    assert all(step.seconds > 0 for step in found.steps if step.work != Work())


FOOTPRINT = Footprint(weights=1000, constant=0, forward=100, backward=1000)
UNGRADED = Footprint(weights=1000, constant=0, forward=100, backward=100)


@pytest.fixture
def known_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(*given: object) -> Footprint:
        return FOOTPRINT if given[-1] else UNGRADED

    monkeypatch.setattr(preflight, "footprint", known)


def ready(**options: Any) -> Classifier:
    opened, given = as_opened(seeded(Normalised)), hints(SHAPE, "softmax")
    with made_ready(opened, given, config(**options)) as classifier:
        return classifier


@pytest.mark.usefixtures("known_footprint")
@pytest.mark.parametrize(
    ("limit", "asked", "batch"),
    [("1MB", 16, 16), ("7500B", 16, 5), ("7500B", 3, 3), ("2300B", 16, 1)],
)
def test_batches_fit_into_the_memory_allowed(limit: str, asked: int, batch: int) -> None:
    # 1,000 bytes of weights and 1,300 a picture: a backward pass, and 30% for what is lost.
    assert FOOTPRINT.needed(5) == 1000 + 5 * 1300
    assert ready(max_memory=limit, batch_size=asked).evaluator.batch_size == batch


@pytest.mark.usefixtures("known_footprint")
def test_too_little_memory_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        UsageError, match=r"A pass of 1 picture\(s\) needs about 1 kB .*1 kB allowed"
    ):
        ready(max_memory="1129B")
    with pytest.raises(UsageError, match="cannot be 'much'"):
        ready(max_memory="much")


@pytest.mark.usefixtures("known_footprint")
def test_a_limit_too_low_for_gradients_leaves_predictions() -> None:
    # Without gradients a picture takes 130 bytes.
    found = ready(max_memory="2299B")
    assert found.evaluator.batch_size == (2299 - 1000) // 130
    said = "a pass with gradients of 1 picture(s) needs about 2 kB with the model's weights, more"
    assert found.record.predictions_only.startswith(said)
    assert found.evaluator.refusal == found.record.predictions_only
    assert ready(max_memory="2300B").record.predictions_only == ""


def short_of_memory(monkeypatch: pytest.MonkeyPatch, graded: bool) -> None:
    """Let memory end where a pass keeps anything for a gradient or, not ``graded``, in any pass."""

    def end(*given: object) -> Footprint:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    if graded:
        room = partial(room_to_keep, available=lambda device: 0)
        monkeypatch.setattr(preflight, "room_to_keep", room)
    else:
        monkeypatch.setattr(preflight, "footprint", end)


def test_memory_too_short_for_gradients_costs_only_what_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short_of_memory(monkeypatch, graded=True)
    report, (found,) = told(metrics="deletion,confidence,noise,sensitivity,randomisation")
    assert [a.method for a in report.attributions] == ["lime", "occlusion"]
    reasons = {step.step: step.reason for step in report.skipped}
    assert reasons.keys() == {"gradcam", "scorecam", "saliency"}
    assert set(reasons.values()) == {
        "this step needs gradients, or what the network computes inside, and a pass with gradients "
        "of 1 picture(s) of 16x16 pixels needs more memory than there is; use a smaller --size, or "
        "another --device"
    }
    measured = {measurement.metric for measurement in report.measurements}
    assert {"deletion", "noise_flips", "sensitivity", "randomised_spearman"} <= measured
    assert sum(passes.backward for passes in report.provenance.passes) == 0
    assert [step.name for step in found.methods] == ["lime", "occlusion"]
    counted = {p.stage: Work(p.forward, p.backward) for p in report.provenance.passes}
    assert all(step.work == counted[step.name] for step in found.steps)
    assert found.memory is not None
    assert any(
        "needs more memory than there is" in s.text for p in report.sections for s in p.sentences
    )


def test_a_model_of_which_no_pass_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    short_of_memory(monkeypatch, graded=False)
    with pytest.raises(
        ModelError,
        match=r"A pass without gradients of 1 picture\(s\) of 16x16 pixels needs more memory than",
    ):
        ready()


class _Cut(Normalised):
    """Takes a part of its features out of the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        scores: Tensor = self.classifier((features + features.detach().relu()).mean((2, 3)))
        return scores


def test_a_gradient_that_would_leave_out_a_part_is_seen_by_all_methods_whatever_comes_first() -> (
    None
):
    heard: list[Forecast] = []
    asked, given = config(methods="gradcam,saliency,lime", metrics=""), hints(SHAPE, "softmax")
    opened = as_opened(seeded(_Cut))
    report, _ = make_report(opened, given, open_image(picture()), asked, foreseen=heard.append)
    assert [a.method for a in report.attributions] == ["lime"]
    assert all("computed without gradients (first seen in" in s.reason for s in report.skipped)
    assert [step.name for step in heard[0].methods] == ["lime"]


@pytest.mark.usefixtures("known_footprint")
@pytest.mark.parametrize(("free", "batch"), [(10**9, 16), (6500, 5), (10, 1), (None, 16)])
def test_without_a_limit_batches_fit_into_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int | None, batch: int
) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda device: free)
    assert ready(batch_size=16).evaluator.batch_size == batch


def test_where_memory_cannot_be_measured_only_a_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> Footprint:
        raise NotApplicable("the memory of a pass cannot be measured on 'mps'")

    monkeypatch.setattr(preflight, "footprint", unknown)
    assert ready().footprint is None
    assert told()[1][0].memory is None
    with pytest.raises(UsageError, match="max_memory cannot be kept here: the memory of a pass"):
        ready(max_memory="1GB")


def test_a_limit_changes_the_batch_and_no_number() -> None:
    plain, (free,) = told(batch_size=16)
    limit = free.memory
    assert limit is not None
    bounded, (found,) = told(batch_size=16, max_memory=f"{limit // 3}B")
    assert found.batch_size < free.batch_size == 16
    assert found.memory is not None
    assert found.memory <= limit // 3
    pairs = list(zip(plain.measurements, bounded.measurements, strict=True))
    for a, b in pairs:
        # Other batches add up in another order, which changes ranks of nearly equal values; the
        # largest difference measured is 1.7e-5, of a rank correlation.
        assert a.value == pytest.approx(b.value, abs=1e-4), (a.metric, a.subject)
    assert len(pairs) > 30


def test_a_survey_tells_the_cost_of_all_its_pictures_once_a_model(tmp_path: Any) -> None:
    heard: list[Forecast] = []
    models = [seeded(Normalised), seeded(Normalised, 1)]
    options = config(methods="saliency", metrics="deletion", size="16")
    images = [picture(), picture(), picture()]
    reportgen.survey(models, images, tmp_path / "out", options, ["json"], foreseen=heard.append)
    assert [found.pictures for found in heard] == [3, 3]
    one = reportgen.foresee(models[0], images[0], options)
    assert heard[0].work == one.work * 3
    assert reportgen.foresee(models[0], images, options).work == one.work * 3


STEPS = (Step("lime", Work(500), 20.0), Step("saliency", Work(1, 1), 0.12))


def test_a_forecast_in_words() -> None:
    found = Forecast(STEPS, (Step("location", Work(), 0.0),), "cpu", 16, 2_100_000_000)
    total = "about 501 forward and 1 backward passes, 20 s on cpu in batches of 16"
    memory = "2.1 GB for a pass and the model"
    assert line(found) == f"{total}, {memory}; longest, for each picture: lime 20 s, saliency 0.1 s"
    assert table(found).splitlines() == [
        "  lime                      500 forward      0 backward      20 s",
        "  saliency                    1 forward      1 backward     0.1 s",
        "  location                    0 forward      0 backward     0.0 s",
        f"{total}, {memory}",
    ]
    many = Forecast(STEPS, (), "cuda", 256, None, pictures=1000)
    assert line(many).startswith(
        "1000 pictures, about 501000 forward and 1000 backward passes, 5.6 h on cuda in batches of "
        "256; longest"
    )
    assert line(Forecast((), (), "cpu", 1, None)).endswith("longest, for each picture: none")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5400, "1.5 h"),
    ],
)
def test_durations_have_about_two_digits(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_the_footprint_is_that_of_the_network() -> None:
    found = ready().footprint
    assert found is not None
    own = sum(p.numel() * p.element_size() for p in seeded(Normalised).parameters())
    # The network, its batch statistics, and a folded copy.
    assert own < found.weights < 3 * own
    assert found.backward >= found.forward > 16 * 16 * 3 * 4
