from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import (
    FORMATS,
    FunctionalRelu,
    OnlyBatchesOf,
    TinyViT,
    classified,
    exported,
    pictures,
    scripted,
    seeded,
    traced,
)

from reportgen.classifier import randomisation
from reportgen.classifier.classifier import Classifier
from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.randomisation import STALE, Stage, randomised, stages
from reportgen.classifier.running_statistics import Kept, estimate
from reportgen.classifier.taps import taps_of
from reportgen.errors import NotApplicable
from reportgen.perturbation.streams import stream

SHAPE = (3, 16, 16)
PICTURE = pictures(1)[0]
COPIES = pictures(8)
OPEN = [kind for kind in FORMATS if kind != "frozen"]
FC, CONV, FIRST = ((f"{path}.weight", f"{path}.bias") for path in ("fc", "conv", "features.0"))


def draws(name: str) -> torch.Generator:
    return stream(0, "test", name)


def staged(network: nn.Module, count: int = 16) -> tuple[Stage, ...]:
    with classified(network, SHAPE) as classifier:
        return stages(classifier, PICTURE, count)


def names(network: nn.Module, count: int = 16) -> list[tuple[str, ...]]:
    return [stage.weights for stage in staged(network, count)]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def check_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@contextmanager
def destroyed(
    network: nn.Module, generators: Callable[[str], torch.Generator] = draws, parts: int = 16
) -> Iterator[Classifier]:
    """Draw the weights of the ``parts`` stages nearest the output anew."""
    with classified(network, SHAPE) as classifier:
        chosen = stages(classifier, PICTURE, 16)[:parts]
        with randomised(classifier, chosen, generators, COPIES):
            yield classifier


class Reversed(nn.Module):
    """Registers its layers in the opposite order of their use."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.middle = nn.Linear(4, 4)
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).mean((2, 3))))


class Curious(nn.Module):
    """Asks for a shape before the weight is used, and uses another one transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Parameter(torch.randn(3, 4))
        self.early = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.late.shape[1] != 4 or self.late.device != x.device:
            return x
        return x.mean((2, 3)) @ self.early.T @ self.late.T


class Tied(nn.Module):
    """Two layers with one weight, two weights with one memory, and a layer without use."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.c = nn.Linear(3, 3, bias=False)
        self.d = nn.Linear(3, 3, bias=False)
        self.d.weight = nn.Parameter(self.c.weight.detach())
        self.unused = nn.Linear(3, 2)
        self.steps = nn.Parameter(torch.tensor([3]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.d(self.c(self.a(x.mean((2, 3)) * self.steps)))
        return self.b(x.relu())


class Deep(nn.Module):
    """Blocks of convolution and batch normalisation whose statistics are those of noise."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.BatchNorm2d(8))
            for i in range(8)
        )
        self.fc = nn.Linear(8, 3)
        with torch.no_grad():
            for block in self.blocks:
                block[0].weight *= 30
                block[1].momentum = 1.0
            self.train()(torch.rand(32, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = F.relu(block(x))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("kind", OPEN)
def test_stages_go_from_the_output_to_the_input_and_leave_normalisation_out(kind: str) -> None:
    network = FORMATS[kind](seeded(FunctionalRelu), SHAPE)
    assert names(network) == [FC, CONV, FIRST]
    assert names(network, 2) == [(*CONV, *FC), FIRST]
    assert names(network, 1) == [(*FIRST, *CONV, *FC)]


def check_drawn(dtype: torch.dtype, correction: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 40, bias=False)).to(dtype)
    before = network[1].weight.detach().clone()
    with classified(network, SHAPE) as classifier:
        (stage,) = stages(classifier, PICTURE, 1)
        with randomised(classifier, (stage,), draws, COPIES):
            drawn = network[1].weight.detach().clone()
    assert torch.equal(network[1].weight, before)
    deviation, mean = torch.std_mean(before.double(), correction=correction)
    plain = mean + deviation * torch.randn(40, 768, generator=draws("1.weight"))
    assert torch.equal(drawn, plain.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_drawn_with_the_mean_and_deviation_that_torch_finds(dtype: torch.dtype) -> None:
    check_drawn(dtype, 0)
    with pytest.raises(AssertionError):
        check_drawn(dtype, 1)


def test_a_frozen_program_has_no_stages() -> None:
    with pytest.raises(NotApplicable, match="constants"):
        staged(FORMATS["frozen"](seeded(FunctionalRelu), SHAPE))


@pytest.mark.parametrize("kind", OPEN)
def test_the_order_is_that_of_use(kind: str) -> None:
    found = names(FORMATS[kind](seeded(Reversed), SHAPE))
    pairs = [(f"{path}.weight", f"{path}.bias") for path in ("last", "middle", "first")]
    assert found == pairs


def test_asking_for_a_shape_is_no_use() -> None:
    assert names(seeded(Curious)) == [("late",), ("early",)]


def test_tied_weights_come_once_and_unused_ones_after_their_neighbour() -> None:
    found = names(seeded(Tied))
    flat = [name for stage in found for name in stage]
    assert "b.weight" not in flat
    assert "steps" not in flat
    assert len(flat) == len(set(flat)) == 6
    assert found[0] == ("unused.weight", "unused.bias")


def test_a_transformers_token_and_projections_are_weights_and_its_norms_are_not() -> None:
    flat = [name for stage in names(seeded(TinyViT)) for name in stage]
    assert flat[:2] == ["fc.weight", "fc.bias"]
    assert {"token", "patches.weight", "blocks.1.query.weight"} <= set(flat)
    assert not [name for name in flat if "norm" in name]


def test_a_stage_is_called_by_its_modules() -> None:
    assert [s.title for s in staged(seeded(FunctionalRelu), 2)] == ["conv to fc", "features.0"]
    assert [s.title for s in staged(seeded(Curious))] == ["late", "early"]


def test_the_pass_that_finds_the_stages_is_counted() -> None:
    with classified(seeded(FunctionalRelu), SHAPE) as classifier:
        before = classifier.evaluator.counter.forward
        stages(classifier, PICTURE, 4)
        assert classifier.evaluator.counter.forward == before + 1


@pytest.mark.parametrize("make", [FunctionalRelu, Reversed, Tied, TinyViT, Deep])
@pytest.mark.parametrize("fails", [False, True])
def test_every_tensor_is_put_back_bit_for_bit(make: Callable[[], nn.Module], fails: bool) -> None:
    network = seeded(make)
    before, modes = state(network), [m.training for m in network.modules()]
    outcome = pytest.raises(ValueError, match="inside") if fails else nullcontext()
    with outcome, destroyed(network):
        with pytest.raises(AssertionError):
            check_same(before, state(network))
        if fails:
            raise ValueError("inside")
    check_same(before, state(network))
    assert modes == [m.training for m in network.modules()]
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} <= {0.1, 1.0}


def test_tensors_are_put_back_when_the_drawing_fails() -> None:
    def fail(name: str) -> torch.Generator:
        if name == "conv.bias":
            raise RuntimeError("no more numbers")
        return draws(name)

    network = seeded(FunctionalRelu)
    before = state(network)
    with pytest.raises(RuntimeError, match="no more"), destroyed(network, fail):
        pass
    check_same(before, state(network))


def twins() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(40), nn.Linear(40, 40), nn.Linear(40, 40))
    network(torch.rand(1, *SHAPE))
    return network


def check_different(generators: Callable[[str], torch.Generator]) -> None:
    network = seeded(twins)
    with destroyed(network, generators):
        assert not torch.allclose(_standard(network[2]), _standard(network[3]))


def _standard(layer: nn.Linear) -> Tensor:
    return (layer.weight - layer.weight.mean()) / layer.weight.std()


def test_tensors_of_one_shape_get_different_values() -> None:
    check_different(draws)


def test_one_seed_for_all_tensors_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        check_different(lambda name: stream(0, "the same"))


def test_weights_keep_their_mean_and_spread_and_nothing_else() -> None:
    network = seeded(twins)
    with torch.no_grad():
        network[1].weight.mul_(3).add_(0.2)
        network[1].bias.fill_(0.7)
    before = network[1].weight.detach().clone()
    with destroyed(network):
        drawn = network[1].weight.detach()
        count, spread = before.numel(), float(before.std())
        assert float(drawn.mean()) == pytest.approx(
            float(before.mean()), abs=3 * spread / count**0.5
        )
        assert float(drawn.std()) == pytest.approx(spread, rel=3 / (2 * count) ** 0.5)
        correlation = torch.corrcoef(torch.stack([drawn.flatten(), before.flatten()]))[0, 1]
        assert abs(correlation) < 3 / count**0.5
        # A tensor of one value has no spread to draw from.
        assert bool((network[1].bias == network[1].bias[0]).all())


def test_the_same_streams_draw_the_same_weights_in_every_format() -> None:
    with destroyed(seeded(FunctionalRelu)) as classifier:
        expected = classifier.evaluator.network.conv.weight.clone()
    for make in (exported, traced):
        with destroyed(make(seeded(FunctionalRelu), SHAPE)) as classifier:
            assert torch.equal(classifier.evaluator.network.conv.weight, expected)


def test_running_statistics_are_those_of_the_copies() -> None:
    network = seeded(FunctionalRelu)
    with destroyed(network):
        made = F.relu(network.features[0](COPIES)).transpose(0, 1).flatten(1)
        norm = network.features[2]
        assert torch.allclose(norm.running_mean, made.mean(1), atol=1e-6)
        assert torch.allclose(norm.running_var, made.var(1), rtol=1e-4)
        assert not norm.training


def test_statistics_before_the_drawn_weights_stay() -> None:
    network = seeded(Deep)
    before = state(network)
    with destroyed(network, parts=3):
        after = state(network)
    same = [
        i
        for i in range(8)
        if torch.equal(*(s[f"blocks.{i}.1.running_mean"] for s in (before, after)))
    ]
    assert same == [0, 1, 2, 3, 4, 5]


def relative_spread(network: nn.Module) -> float:
    """Return how much the logits differ between pictures, beside how large they are."""
    with torch.no_grad():
        logits = network(pictures(8) * torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)).double()
    assert logits.isfinite().all()
    assert logits.abs().max() < 100
    return float(logits.std(0).mean() / logits.abs().mean())


def test_logits_neither_explode_nor_become_constant() -> None:
    with destroyed(seeded(Deep)) as classifier:
        assert relative_spread(classifier.evaluator.network) > 0.05


def reset_all(network: nn.Module) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def reset_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


@pytest.mark.parametrize("naive", [reset_all, reset_statistics])
def test_the_naive_reset_falls_into_the_trap(naive: Callable[[nn.Module], None]) -> None:
    network = seeded(Deep)
    naive(network)
    with pytest.raises(AssertionError):
        assert relative_spread(network) > 0.05


class ByHand(nn.Module):
    """Normalises with running statistics that only it knows how to read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("running_mean", torch.full((4,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x) - self.running_mean.view(-1, 1, 1)).mean((2, 3))


class Idle(nn.Module):
    """Holds a normalisation that no pass reaches, as auxiliary heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = FunctionalRelu()
        self.head = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) if self.training else self.body(x)


class Instances(nn.Module):
    """Keeps running statistics of each picture, which is another normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.norm.running_mean, self.norm.running_var
        x = F.instance_norm(self.conv(x), mean, variance, use_input_stats=False)
        return x.mean((2, 3))


def note_of(network: nn.Module, fixed_batch: int | None = None) -> str:
    with classified(network, SHAPE, fixed_batch=fixed_batch) as classifier:
        chosen = stages(classifier, PICTURE, 1)
        with randomised(classifier, chosen, draws, COPIES) as note:
            return note


# A symbolic trace of a network that reads them by hand keeps a view of them, without their name.
@pytest.mark.parametrize("kind", [kind for kind in OPEN if kind != "symbolic"])
@pytest.mark.parametrize(
    ("make", "note"),
    [(FunctionalRelu, ""), (Idle, ""), (TinyViT, ""), (ByHand, STALE), (Instances, STALE)],
)
def test_statistics_that_stay_are_told(make: Callable[[], nn.Module], note: str, kind: str) -> None:
    network = FORMATS[kind](seeded(make), SHAPE)
    before = state(network)
    assert note_of(network) == note
    check_same(before, state(network))


def drawn_outputs(network: nn.Module, fixed_batch: int | None = None, parts: int = 16) -> Tensor:
    with classified(network, SHAPE, fixed_batch=fixed_batch) as classifier:
        chosen = stages(classifier, PICTURE, 16)[:parts]
        with randomised(classifier, chosen, draws, COPIES) as note:
            assert not note
            return classifier.evaluator.stream(8, lambda start, stop: COPIES[start:stop])


def check_agreement(found: Tensor, parts: int = 16) -> None:
    """Check that outputs are those of the module with the same weights drawn anew."""
    expected = drawn_outputs(seeded(Deep), parts=parts)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("parts", [3, 16])
@pytest.mark.parametrize("kind", OPEN)
def test_every_format_is_redrawn_alike(kind: str, parts: int) -> None:
    network = FORMATS[kind](seeded(Deep), SHAPE)
    before = state(network)
    check_agreement(drawn_outputs(network, parts=parts), parts)
    check_same(before, state(network))


def without(*given: object) -> bool:
    return True


def of_one_copy(
    evaluator: Evaluator, statistics: Iterable[Tensor], copies: Tensor, kept: Kept
) -> bool:
    return estimate(evaluator, statistics, copies[:1], kept)


def biased(evaluator: Evaluator, statistics: Iterable[Tensor], copies: Tensor, kept: Kept) -> bool:
    done, count = estimate(evaluator, statistics, copies, kept), copies[:, 0].numel()
    for name, variance in evaluator.network.named_buffers():
        if name.endswith("running_var"):
            variance.mul_((count - 1) / count)
    return done


@pytest.mark.parametrize("kind", OPEN)
@pytest.mark.parametrize("wrong", [without, of_one_copy, biased])
def test_other_statistics_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, kind: str, wrong: Callable[..., bool]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(randomisation, "estimate", wrong)
        found = drawn_outputs(FORMATS[kind](seeded(Deep), SHAPE))
    with pytest.raises(AssertionError):
        check_agreement(found)


def as_program(network: nn.Module, size: int, basic: bool = False) -> nn.Module:
    """Return an exported graph for batches of one size, of ``basic`` operators where asked for."""
    program = torch.export.export(network, (torch.rand(size, *SHAPE),))
    if basic:
        with warnings.catch_warnings():
            # PyTorch deprecates what it calls here itself.
            warnings.simplefilter("ignore", FutureWarning)
            program = program.run_decompositions()
    module = program.module(check_guards=False)
    return torch.fx.GraphModule(module, module.graph, "ExportedProgram")


@pytest.mark.parametrize("basic", [False, True])
@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_a_program_for_one_batch_size_is_redrawn_alike(size: int, basic: bool) -> None:
    network = as_program(seeded(Deep), size, basic)
    before = state(network)
    check_agreement(drawn_outputs(network, fixed_batch=size))
    check_same(before, state(network))


def test_a_module_for_one_batch_size_keeps_its_statistics() -> None:
    with classified(OnlyBatchesOf(seeded(FunctionalRelu), 3), SHAPE, fixed_batch=3) as classifier:
        chosen, counter = stages(classifier, PICTURE, 1), classifier.evaluator.counter
        before = counter.forward
        with randomised(classifier, chosen, draws, COPIES) as note:
            assert (note, counter.forward) == (STALE, before)


@pytest.mark.parametrize(("make", "note"), [(FunctionalRelu, ""), (ByHand, STALE)])
def test_a_program_for_one_batch_size_tells_what_stayed(
    make: Callable[[], nn.Module], note: str
) -> None:
    network = as_program(seeded(make), 3)
    before = state(network)
    assert note_of(network, 3) == note
    check_same(before, state(network))


@pytest.mark.parametrize(
    ("network", "size", "passes"),
    [
        (lambda: seeded(FunctionalRelu), None, len(COPIES)),
        (lambda: seeded(Reversed), None, 0),
        (lambda: traced(seeded(FunctionalRelu), SHAPE), None, len(COPIES)),
        (lambda: as_program(seeded(FunctionalRelu), 3), 3, len(COPIES)),
    ],
)
def test_the_pass_over_the_copies_is_counted(
    network: Callable[[], nn.Module], size: int | None, passes: int
) -> None:
    with classified(network(), SHAPE, fixed_batch=size) as classifier:
        chosen, counter = stages(classifier, PICTURE, 1), classifier.evaluator.counter
        before = counter.forward
        with randomised(classifier, chosen, draws, COPIES):
            assert (counter.forward - before, counter.backward) == (passes, 0)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    found = []
    for size in (32, batch_size):
        network = seeded(FunctionalRelu)
        with classified(network, SHAPE, batch_size=size) as classifier:
            chosen = stages(classifier, PICTURE, 1)
            with randomised(classifier, chosen, draws, COPIES):
                found.append(state(network))
    check_same(*found)


@pytest.mark.parametrize("kind", ["eager", "exported", "symbolic"])
def test_an_inner_activation_is_that_of_the_drawn_weights(kind: str) -> None:
    network = FORMATS[kind](seeded(FunctionalRelu), SHAPE)
    taps = taps_of(network)
    taps.shapes(COPIES)
    clean = taps.tap("conv")(COPIES)[1]
    with destroyed(network):
        output, activation = taps.tap("conv")(COPIES)
        made = F.relu(activation).mean((2, 3)) @ network.fc.weight.T + network.fc.bias
        assert torch.allclose(output, made, atol=1e-5)
        assert torch.allclose(output, network(COPIES), atol=1e-5)
        assert not torch.allclose(activation, clean, atol=0.01)


class Alike(nn.Module):
    """Layers with equal tensors, without biases, and a product of weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, bias=False)
        self.other = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.randn(4, 3))
        nn.init.eye_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.second(self.norm(self.first(x)))).relu()
        return x.mean((2, 3)) @ (self.fc.weight.T @ self.scale) + self.fc.bias[:3]


def check_reading(
    make: Callable[..., nn.Module], kind: Callable[[], nn.Module], as_constants: bool = False
) -> None:
    """Check that a reader made before the draw, and used before it, reads what the draw made."""
    network = make(seeded(kind).requires_grad_(False), SHAPE)
    taps = taps_of(torch.jit.freeze(network, optimize_numerics=False) if as_constants else network)
    name = next(name for name, shape in taps.shapes(COPIES) if len(shape) == 4)
    run = taps.tap(name)
    clean = run(COPIES)[1]
    with destroyed(network):
        output, activation = run(COPIES)
        tail = taps.resume(name)(COPIES, activation).tail
        assert torch.allclose(output, network(COPIES), atol=1e-5)
        assert torch.allclose(tail(activation), network(COPIES), atol=1e-5)
        assert not torch.allclose(activation, clean, atol=0.01)


@pytest.mark.parametrize("kind", [Alike, Deep])
@pytest.mark.parametrize("make", [traced, scripted])
def test_a_script_is_read_with_the_drawn_weights(
    make: Callable[..., nn.Module], kind: Callable[[], nn.Module]
) -> None:
    check_reading(make, kind)


@pytest.mark.filterwarnings("ignore:`torch.jit.freeze` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("make", [traced, scripted])
def test_weights_as_constants_would_be_noticed(make: Callable[..., nn.Module]) -> None:
    with pytest.raises(AssertionError):
        check_reading(make, Alike, as_constants=True)
