"""Memory: sizes as people write them, peaks known by hand, batches that fit, and what is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from toys import FORMATS, Fixed, InPlaceRelu, OnlyBatchesOf, TinyViT, pictures, scripted, seeded

from reportgen.classifier import memory
from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.evaluator import Batches, Evaluator
from reportgen.classifier.heads import HEADS
from reportgen.classifier.memory import (
    Footprint,
    available_memory,
    footprint,
    largest_batch,
    parse_memory,
    peak_memory,
    spelled,
    weight_bytes,
)
from reportgen.classifier.normalisation import Normalisation
from reportgen.errors import NotApplicable, UsageError

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))
# So large that what a convolution's library sets aside, which is nearly the same for all sizes and
# differs between processors, is little beside the activations.
SHAPE = (3, 64, 64)
PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
PICTURE = 4 * 3 * 64 * 64
SPIKE = 9 * PICTURE


def several(count: int) -> Tensor:
    return pictures(count, *SHAPE)


class Twice(nn.Module):
    """Two exponentials and a mean: three blocks of the pictures' size live at a time.

    With gradients the two that were made are kept until theirs, two at a time, are made: five.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.exp().exp().mean((2, 3))


class SpikeFirst(Twice):
    """Fills and frees one large block before it does anything with the pictures."""

    def forward(self, x: Tensor) -> Tensor:
        spike = torch.zeros(SPIKE // 4).sum()
        return super().forward(x) + spike


class Forked(nn.Module):
    """Two products, each made in a thread of its own, and their sum."""

    def forward(self, x: Tensor) -> Tensor:
        first = torch.jit.fork(torch.mul, x, x)
        second = torch.jit.fork(torch.mul, x, x)
        return torch.jit.wait(first) + torch.jit.wait(second)


class Strided(nn.Module):
    """A convolution of 3 channels into 8 of half the size in each direction, and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("800 MB", 800 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("2000000000", 2 * 10**9),
        (" 3 kib ", 3 * 1024),
        ("1.1gb", 1_100_000_000),
        ("4.35GB", 4_350_000_000),
        ("7 Kb", 7000),
        ("1MiB", 2**20),
        ("12b", 12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "GB", "much", "-4GB", "0", "0.0GB", "0.1", "4G", "4 XB", "4GBs", "1e9", "nan"),
        *("inf GB", "4,5GB", "1.GB", "4GB 2GB", "9" * 400, "iB", "4 iB"),
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give a size above zero with its unit, such as 800MB"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "2 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (800 * 10**6, "800 MB"),
        (999_600_000, "1.0 GB"),
        (2_100_000_000, "2.1 GB"),
        (141 * 10**9, "141.0 GB"),
    ],
)
def test_sizes_are_spelled(size: int, words: str) -> None:
    assert spelled(size) == words


@given(some.integers(1, 10**15))
def test_spelled_sizes_can_be_read_again(size: int) -> None:
    assert parse_memory(spelled(size)) == pytest.approx(size, rel=0.5)


def chain(size: int, kept: list[Tensor]) -> Callable[[], object]:
    """Return a run whose blocks are 1, 2 (one more), 2 (the first is gone), 3 and 1 long."""

    def run() -> None:
        first = torch.zeros(size)
        second = first + 1
        del first
        third = second * 2
        fourth = third - second
        del second, third
        kept.append(fourth)

    return run


@pytest.mark.parametrize("size", [1000, 50_000])
def test_the_peak_of_a_chain_is_known(size: int) -> None:
    assert peak_memory(chain(size, []), CPU) == 3 * 4 * size


def test_what_was_there_before_is_not_counted() -> None:
    kept: list[Tensor] = []
    run = chain(1000, kept)
    assert [peak_memory(run, CPU) for _ in range(3)] == [12_000] * 3
    assert peak_memory(lambda: kept[0].add_(1), CPU) < 100
    assert peak_memory(lambda: None, CPU) == 0


def test_threads_are_seen_in_the_order_of_time() -> None:
    network, rows = scripted(Forked(), SHAPE), torch.zeros(1_000_000)
    for _ in range(10):
        assert peak_memory(lambda: network(rows), CPU) == pytest.approx(12_000_000, abs=100)


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """See that nothing, PyTorch's profiler included, writes to the terminal."""
    yield
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", FORMATS)
def test_a_footprint_is_known(name: str) -> None:
    network = FORMATS[name](Twice().eval(), SHAPE)
    # Three scores of a picture, and their sum and its gradient for all four of them.
    of_one, of_all = 4 * 3, 4 * 2
    slope = 5 * PICTURE + of_one + of_all // 4
    constant = of_all - of_all // 4
    assert footprint(network, several(4), 0) == Footprint(0, constant, 3 * PICTURE, slope)


@pytest.mark.parametrize("name", FORMATS)
def test_activations_of_a_convolution_are_seen(name: str) -> None:
    network = seeded(Strided).requires_grad_(False)
    found = footprint(FORMATS[name](network, SHAPE), several(4), 0)
    made = 4 * 8 * 32 * 32
    assert PICTURE + 2 * made <= found.forward <= 2 * (PICTURE + 2 * made)
    assert 2 * PICTURE + 2 * made <= found.backward <= 2 * (2 * PICTURE + 2 * made)


def differentiated(network: nn.Module, count: int) -> int:
    """Return the bytes of a pass with the gradient by ``count`` pictures, these included."""

    def run() -> None:
        leaf = given.clone().requires_grad_()
        torch.autograd.grad(network(leaf).sum(), leaf)

    given = several(count)
    return peak_memory(run, CPU)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", [InPlaceRelu, TinyViT, Twice])
def test_no_batch_needs_more_than_was_said(make: Callable[[], nn.Module], name: str) -> None:
    network = FORMATS[name](seeded(make).requires_grad_(False), SHAPE)
    found = footprint(network, several(4), 0)
    for count in (1, 2, 3, 7, 16, 40):
        used = differentiated(network, count)
        assert used <= found.constant + count * found.backward <= 1.25 * used


def test_what_small_batches_hide_is_allowed_for() -> None:
    def passed(count: int) -> int:
        return peak_memory(lambda: network(given[:count].clone()), CPU)

    network, given = SpikeFirst(), several(40)
    two, four, many = passed(2), passed(4), passed(40)
    assert (two, many) == (SPIKE + 2 * PICTURE + 4, 40 * 3 * PICTURE + 4)
    assert four + 36 * (four - two) / 2 < 0.5 * many
    assert many <= 40 * footprint(network, given[:4], 0).forward <= 1.1 * many


def test_passes_go_through_the_evaluator_and_are_counted() -> None:
    with borrowed(network := seeded(InPlaceRelu)):
        subject = Evaluator(network, HEADS["softmax"], PLAIN, CPU, Batches(32))
        found = footprint(subject.raw, several(4), weight_bytes(network))
    assert (subject.counter.forward, subject.counter.backward) == (10, 5)
    assert 0 < found.forward <= found.backward


def test_a_fixed_batch_is_run_as_it_is() -> None:
    with borrowed(network := OnlyBatchesOf(seeded(InPlaceRelu), 3)):
        batches = Batches(32, fixed=3)
        subject = Evaluator(network, HEADS["softmax"], PLAIN, CPU, batches)
        found = footprint(subject.raw, several(3), 0, fixed=True)
    assert (subject.counter.forward, subject.counter.backward) == (6, 3)
    assert (found.constant, found.smallest) == (0, 3)
    assert found.backward > 2 * PICTURE


def test_one_picture_is_enough() -> None:
    assert footprint(Twice(), several(1), 0) == Footprint(0, 0, 3 * PICTURE, 5 * PICTURE + 20)


def test_a_network_without_gradients_has_a_footprint() -> None:
    found = footprint(Fixed(torch.tensor([1.0, 2.0])), several(4), 0)
    assert found == Footprint(0, 0, PICTURE, PICTURE)


def test_inputs_and_flags_are_left_unchanged() -> None:
    given, network = several(4), seeded(InPlaceRelu)
    footprint(network, given, 0)
    assert torch.equal(given, several(4))
    assert not given.requires_grad
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_found_in_every_format(name: str) -> None:
    network = seeded(Strided)
    assert weight_bytes(FORMATS[name](network, SHAPE)) == 4 * (8 * 3 * 3 * 3 + 8)


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(10, 10, bias=False)
    twin = nn.Linear(10, 10, bias=False)
    twin.weight = nn.Parameter(layer.weight.detach().view(10, 10))
    assert weight_bytes(nn.Sequential(layer, twin, layer)) == 400
    assert weight_bytes(nn.Sequential(layer, nn.Linear(10, 10, bias=False))) == 800
    assert weight_bytes(nn.BatchNorm2d(5)) == 4 * 5 * 4 + 8


@given(
    some.integers(0, 500),
    some.integers(0, 500),
    some.integers(1, 500),
    some.sampled_from([1, 2, 3, 8]),
    some.integers(1, 40),
    some.integers(0, 30_000),
)
def test_the_largest_batch_fits_and_the_next_does_not(
    weights: int, constant: int, each: int, smallest: int, wanted: int, limit: int
) -> None:
    found = Footprint(weights, constant, each // 2, each, smallest)

    def fits(batch: int) -> bool:
        return found.needed(-(-batch // smallest) * smallest) <= limit

    expected = max((batch for batch in range(1, wanted + 1) if fits(batch)), default=0)
    if expected:
        assert largest_batch(found, limit, wanted) == expected
    else:
        with pytest.raises(UsageError):
            largest_batch(found, limit, wanted)


def test_what_is_needed_can_be_reckoned() -> None:
    assert Footprint(weights=100, constant=10, forward=3, backward=9).needed(10) == 100 + 130
    assert Footprint(weights=100, constant=10, forward=9, backward=3).needed(10) == 100 + 130


def test_too_little_memory_is_refused_with_what_to_do() -> None:
    found = Footprint(weights=10**9, constant=0, forward=1, backward=10**9)
    with pytest.raises(UsageError) as refusal:
        largest_batch(found, 2 * 10**9, 16)
    assert str(refusal.value) == (
        "A pass of 1 picture(s) needs about 2.3 GB with the model's weights, more than the 2.0 GB "
        "allowed; allow 2300MB or more with --max-memory, or use a smaller --size."
    )
    assert largest_batch(found, parse_memory("2300MB"), 16) == 1


def test_memory_is_not_measured_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotApplicable, match="cannot be measured on 'mps'"):
        peak_memory(lambda: None, MPS)
    with pytest.raises(NotApplicable, match="inside another profiler"):
        peak_memory(lambda: peak_memory(lambda: None, CPU), CPU)
    monkeypatch.delattr("torch._C._autograd._enable_profiler_legacy")
    with pytest.raises(NotApplicable, match="does not say"):
        peak_memory(lambda: None, CPU)


def recorded(run: Callable[[], object]) -> list[Any]:
    """Return all that PyTorch's profiler says of a run, operations too."""
    _enable_profiler_legacy(memory._only_memory())
    try:
        run()
    finally:
        threads = _disable_profiler_legacy()
    return [event for thread in threads for event in thread]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", [Strided, TinyViT])
def test_the_peak_is_the_same_with_and_without_operations(
    make: Callable[[], nn.Module], name: str
) -> None:
    network, given = FORMATS[name](seeded(make).requires_grad_(False), SHAPE), several(2)

    def run() -> None:
        memory._with_gradient(network, given)

    for _ in range(3):  # TorchScript makes other code at the first runs
        run()
    bytes_, most = 0, 0
    for event in recorded(run):
        bytes_ += event.cpu_memory_usage()
        most = max(most, bytes_)
    assert peak_memory(run, CPU) == most > 2 * PICTURE


def test_operations_are_left_out_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def stop() -> Any:
        threads = _disable_profiler_legacy()
        heard.extend(event.kind() for thread in threads for event in thread)
        return threads

    monkeypatch.setattr("torch._C._autograd._disable_profiler_legacy", stop)
    peak_memory(chain(1000, []), CPU)
    assert "memory_alloc" in heard and "push" not in heard
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 // 0, CPU)
    assert "push" in {event.kind() for event in recorded(lambda: torch.ones(3) + 1)}


def test_a_crash_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 // 0, CPU)
    assert peak_memory(chain(1000, []), CPU) == 12_000


def test_cuda_is_asked_for_its_own_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    now, peak = [100], [9000]
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda d: peak.__setitem__(0, now[0]))
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda d: now[0])
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda d: peak[0])
    assert peak_memory(lambda: peak.__setitem__(0, 700), CUDA) == 600
    assert peak_memory(lambda: None, CUDA) == 0
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda d: 150)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda d: (1000, 5000))
    assert available_memory(CUDA) == 1050


def system(root: Path, groups: str, files: dict[str, str]) -> None:
    """Write what a system with 8000 kB to give says of its control groups."""
    every = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n", **files}
    for name, text in {**every, "proc/self/cgroup": groups}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V1 = "4:cpu,memory:/job/a\n3:cpu:/job\n0::/\n"
V1_TOP, V2_TOP = "sys/fs/cgroup/memory/", "sys/fs/cgroup/"
V1_LIMIT, V1_USED = "memory.limit_in_bytes", "memory.usage_in_bytes"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8000 * 1024),
        ("0::/\n", {f"{V2_TOP}memory.max": "5000", f"{V2_TOP}memory.current": "2000"}, 3000),
        ("0::/\n", {f"{V2_TOP}memory.max": "max", f"{V2_TOP}memory.current": "2"}, 8000 * 1024),
        ("0::/\n", {f"{V2_TOP}memory.max": "5", f"{V2_TOP}memory.current": "7"}, 0),
        (
            "0::/job/a\n",
            {
                f"{V2_TOP}job/memory.max": "5000",
                f"{V2_TOP}job/memory.current": "4000",
                f"{V2_TOP}job/memory.stat": "anon 1000\ninactive_file 300\n",
                f"{V2_TOP}job/a/memory.max": "max",
                f"{V2_TOP}job/a/memory.current": "4000",
            },
            1300,
        ),
        (V1, {V1_TOP + "job/a/" + V1_LIMIT: "9000", V1_TOP + "job/a/" + V1_USED: "500"}, 8500),
        (
            V1,
            {
                V1_TOP + V1_LIMIT: "9000",
                V1_TOP + V1_USED: "700",
                V1_TOP + "memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
            },
            8500,
        ),
        (V1, {V1_TOP + V1_LIMIT: "9223372036854771712", V1_TOP + V1_USED: "7"}, 8000 * 1024),
    ],
)
def test_free_memory_is_bounded_by_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    expected: int,
) -> None:
    system(tmp_path, groups, files)
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    assert available_memory(CPU) == expected


def test_free_memory_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory(MPS) is None
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    assert available_memory(CPU) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 3 kB\n")
    assert available_memory(CPU) == 3072
