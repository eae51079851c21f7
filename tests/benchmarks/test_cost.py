"""What a report costs is reckoned right, and the script writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import bare
import cost
import ledger
import machine
import pytest
import startup
import torch
from bare import Input, Inputs, Pace, Setup
from ledger import Stage
from torch import Tensor, nn

from reportgen.classifier.opened import Opened
from reportgen.records import Passes

ROOT = Path(__file__).parents[2]
SIGNS = ROOT / "examples" / "signs"
PACE = Pace(forward=2.0, both=5.0)
CPU = Input((3, 8, 8), torch.device("cpu"), torch.float32)


def one_by_one(forward: int, backward: int, pace: Pace) -> float:
    """Return the bare seconds by running through the passes: some come back, the others do not."""
    assert pace.both is not None
    return sum(pace.both if number < backward else pace.forward for number in range(forward))


def added(forward: int, backward: int, pace: Pace) -> float:
    """Return them with a mistake: the way forward of a pass that comes back is counted twice."""
    assert pace.both is not None
    return forward * pace.forward + backward * pace.both


@pytest.mark.parametrize(("forward", "backward"), [(10, 4), (10, 0), (7, 7), (0, 0)])
def test_bare_seconds_are_those_of_each_pass(forward: int, backward: int) -> None:
    assert ledger.bare_seconds(forward, backward, PACE) == one_by_one(forward, backward, PACE)


def test_counting_the_way_forward_twice_is_seen() -> None:
    assert added(10, 4, PACE) != one_by_one(10, 4, PACE) == 32


def test_a_network_without_gradients_has_only_passes_forward() -> None:
    assert ledger.bare_seconds(10, 0, Pace(2.0, None)) == 20


def test_the_pace_is_the_mean_of_before_and_after() -> None:
    assert ledger.mean_pace(Pace(1.0, 4.0), Pace(2.0, 8.0)) == Pace(1.5, 6.0)
    assert ledger.mean_pace(Pace(1.0, 4.0), Pace(2.0, None)) == Pace(1.5, None)


def test_rows_and_sums_follow_from_what_the_report_says() -> None:
    passes = [
        Passes(stage="prediction", forward=1, backward=0),
        Passes(stage="saliency", forward=2, backward=2),
        Passes(stage="deletion", forward=10, backward=0),
        Passes(stage="agreement", forward=0, backward=0),
    ]
    taken = {
        "prediction": 4.0,
        "saliency": 20.0,
        "deletion": 25.0,
        "agreement": 15.0,
        "total": 64.0,
    }
    stages = ledger.stages_of(passes, taken, [PACE] * 5)
    assert [stage.efficiency for stage in stages] == [0.5, 0.5, 0.8, None]
    methods, metrics, whole = ledger.totals_of(stages)
    assert methods == Stage("all methods", 2, 2, 10.0, 20.0)
    assert metrics == Stage("all metrics", 10, 0, 20.0, 40.0)
    assert whole == Stage("all stages", 13, 2, 32.0, 64.0)
    assert metrics.efficiency == 0.5
    # A mean of shares would let a stage of a moment hide one of minutes.
    assert fmean(s.efficiency for s in stages if s.efficiency) != whole.efficiency == 0.5


def test_a_stage_is_compared_with_the_network_just_before_and_after_it() -> None:
    passes = [Passes(stage=name, forward=10, backward=0) for name in ("deletion", "insertion")]
    paces = [Pace(1.0, None), Pace(3.0, None), Pace(5.0, None)]
    found = ledger.stages_of(passes, {"deletion": 20.0, "insertion": 40.0}, paces)
    assert [stage.bare for stage in found] == [20.0, 40.0]
    with pytest.raises(ValueError, match="shorter"):
        ledger.stages_of(passes, {"deletion": 20.0, "insertion": 40.0}, paces[:2])


def test_a_whole_report_is_made_drawn_and_written() -> None:
    seconds = {ledger.REPORT: 66.0, ledger.HTML: 2.0, ledger.WRITING: 1.0, "opening": 100.0}
    found = ledger.beside(seconds, Stage("all stages", 13, 2, 32.0, 64.0))
    assert list(found.values()) == [2.0, 69.0, 37.0]
    with_pdf = ledger.beside({**seconds, ledger.PDF: 8.0}, Stage("all stages", 13, 2, 32.0, 64.0))
    assert list(with_pdf.values()) == [2.0, 77.0, 45.0]


def search(seconds: dict[int, float]) -> tuple[tuple[int, float] | None, list[int]]:
    """Return what is found among batches of these seconds a picture, and the batches tried."""
    tried: list[int] = []

    def timed(size: int) -> float:
        tried.append(size)
        if size not in seconds:
            raise RuntimeError("out of memory")
        return seconds[size]

    return bare.fastest((1, 2, 4, 8, 16, 32), timed), tried


def test_the_best_batch_is_found_past_one_slower_one() -> None:
    found, tried = search({1: 5.0, 2: 6.0, 4: 3.0, 8: 4.0, 16: 4.0, 32: 1.0})
    assert found == (4, 3.0)
    assert tried == [1, 2, 4, 8, 16]


def test_batches_that_do_not_fit_end_the_search() -> None:
    assert search({1: 5.0, 2: 4.0}) == ((2, 4.0), [1, 2, 4])
    assert search({}) == (None, [1])


def test_seconds_a_picture_are_a_mean_over_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def run(batch: Tensor) -> None:
        nonlocal now
        now += 0.25

    monkeypatch.setattr(bare.time, "perf_counter", lambda: now)
    assert bare.seconds_a_picture(run, torch.zeros(2, 1), least=3.0) == 0.125
    assert now == 0.25 * (1 + 1 + 12)


def network(*layers: nn.Module) -> Opened:
    return Opened(nn.Sequential(*layers).eval(), "toy", "module", "toy")


class Flattened(nn.Module):
    """Refuses activations that are stored channels last."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch.view(len(batch), -1)


class Detached(nn.Module):
    """Lets no gradient through."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch.detach().mean((2, 3))


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare, "CPU_SIZES", (1, 2))


@pytest.mark.usefixtures("few_sizes")
def test_an_order_that_the_network_refuses_is_left_out() -> None:
    found = bare.find_setups(network(Flattened(), nn.Linear(192, 2)), Inputs(CPU, CPU), 0)
    assert found.both is not None
    assert {found.forward.layout, found.both.layout} == {"channels first"}


@pytest.mark.usefixtures("few_sizes")
def test_a_network_without_gradients_has_no_pace_back() -> None:
    opened = network(Detached())
    found = bare.find_setups(opened, Inputs(CPU, CPU), 0)
    assert found.both is None
    assert bare.pace_of(opened, Inputs(CPU, CPU), found, 0).both is None


def test_a_fixed_batch_is_the_only_one_tried() -> None:
    opened = Opened(nn.Flatten(), "toy", "module", "toy", fixed_batch=3)
    found = bare.find_setups(opened, Inputs(CPU, CPU), 0)
    assert found.forward.batch == 3


def test_each_direction_has_its_own_precision() -> None:
    kinds: list[torch.dtype] = []
    layer = nn.Linear(192, 2)
    layer.register_forward_pre_hook(lambda module, given: kinds.append(given[0].dtype))
    fed = Inputs(Input(CPU.shape, CPU.device, torch.bfloat16), CPU)
    setup = Setup(1, "channels first")
    bare.pace_of(network(nn.Flatten(), layer), fed, bare.Setups(setup, setup), 0)
    half = len(kinds) // 2
    assert set(kinds[:half]) == {torch.bfloat16}
    assert set(kinds[half:]) == {torch.float32}


def test_random_networks_are_the_same_every_time() -> None:
    state = torch.get_rng_state()
    one, two = (bare.random_network("torchvision:squeezenet1_1") for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_process_is_timed_and_its_answer_checked() -> None:
    assert startup._process_seconds(("explain", "no-such-file", "no-such-file"), 3) > 0
    with pytest.raises(RuntimeError, match="ended with 3, not 0"):
        startup._process_seconds(("explain", "no-such-file", "no-such-file"), 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "none"),
        (12, "12 bytes"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 30, "3.0 GiB"),
    ],
)
def test_sizes_name_their_unit(size: int | None, text: str) -> None:
    assert machine.written(size) == text


def test_the_command_names_no_folder(tmp_path: Path) -> None:
    words = [f"{tmp_path}/cost.py", f"{tmp_path}/new model.pt", "--device", "cpu"]
    assert machine.command(words) == "python benchmarks/cost.py 'new model.pt' --device cpu"


def test_the_peak_is_of_what_comes_after_it_is_restarted() -> None:
    device = torch.device("cpu")
    large = torch.ones(64 << 20, dtype=torch.uint8)
    high = machine.host_peak()
    del large
    if not machine.restart_peaks(device):
        pytest.skip("the system restarts no peaks here")
    assert machine.host_peak() < high - (32 << 20)
    assert machine.device_peak(device) is None


@pytest.fixture
def alone(few_sizes: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Return the script without new processes and without PDF, which take the longest."""
    monkeypatch.setattr(cost, "start_up", lambda later: {"reportgen --help": 0.5})
    monkeypatch.setattr(cost, "pdf_obstacle", lambda: "PDF is left out")
    monkeypatch.setattr("sys.argv", ["cost.py"])
    return cost.main


@pytest.mark.slow
def test_the_script_writes_text_and_json(
    alone: Callable[[list[str]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, text, data = (tmp_path / name for name in ("few.toml", "cost.md", "cost.json"))
    config.write_text('methods = "saliency"\nmetrics = "complexity,confidence"\n')
    files = ["--config", str(config), "--json", str(data), "--out", str(text)]
    signs = [str(SIGNS / "signs.pt2"), str(SIGNS / "pictures" / "stop.png")]
    alone([*signs, *files, "--least", "0", "--profile", "quick", "--device", "cpu"])
    found = json.loads(data.read_text())
    assert [stage["name"] for stage in found["stages"]] == [
        "prediction", "saliency", "confidence", "complexity",
    ]  # fmt: skip
    saliency = found["stages"][1]
    assert len(found["paces"]) == len(found["stages"]) + 1
    pace = fmean(pace["both"] for pace in found["paces"][1:3])
    assert saliency["bare"] == pytest.approx(pace * saliency["backward"])
    assert saliency["efficiency"] == pytest.approx(saliency["bare"] / saliency["taken"])
    assert found["memory"]["host_peak"] >= found["memory"]["host_before"] > 0
    assert found["machine"]["processor"]
    assert text.read_text() == capsys.readouterr().out.removesuffix("\n")
    assert "| saliency | 1 | 1 |" in text.read_text()
