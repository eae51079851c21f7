"""The evaluator: one result whatever the batch, exact counts, a network left as it was found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import (
    Constant,
    Fixed,
    FunctionalRelu,
    OnlyBatchesOf,
    ShortOfMemory,
    Viewing,
    classified,
    frozen,
    pictures,
    seeded,
)

from reportgen.classifier.borrowing import borrowed
from reportgen.classifier.evaluator import Batches, Evaluator
from reportgen.classifier.heads import HEADS
from reportgen.classifier.layers import search_layer
from reportgen.classifier.normalisation import Normalisation
from reportgen.classifier.opened import Opened
from reportgen.classifier.probing import accepts_channels_last, probe
from reportgen.errors import ModelError, NotApplicable, UsageError
from reportgen.records import Preprocessing

SHAPE = (3, 16, 16)
COUNT = 7
# Other batch sizes may add up in another order; the largest difference measured is 1.5e-8.
ROUNDING = 1e-7
PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)


def evaluator(
    network: nn.Module, batch_size: int = 32, fixed_batch: int | None = None
) -> Evaluator:
    cpu = torch.device("cpu")
    return Evaluator(network, HEADS["softmax"], PLAIN, cpu, Batches(batch_size, fixed_batch))


def streamed(subject: Evaluator, pixels: Tensor) -> Tensor:
    return subject.stream(len(pixels), lambda start, stop: pixels[start:stop])


@pytest.fixture
def pixels() -> Tensor:
    return pictures(COUNT)


@pytest.fixture
def reference(pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return seeded(FunctionalRelu)(pixels)


def alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) < ROUNDING


def test_the_comparison_can_fail(reference: Tensor) -> None:
    assert not alike(reference, reference + 2 * ROUNDING)
    assert not alike(reference, reference[1:])
    assert not alike(reference, reference.flip(0))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("fixed_batch", [None, 1, 4])
def test_batches_do_not_change_the_outputs(
    pixels: Tensor, reference: Tensor, batch_size: int, fixed_batch: int | None
) -> None:
    network = seeded(FunctionalRelu)
    if fixed_batch:
        network = OnlyBatchesOf(network, fixed_batch)
    subject = evaluator(network, batch_size, fixed_batch)
    assert alike(streamed(subject, pixels), reference)
    assert subject.counter.forward == COUNT
    assert subject.counter.backward == 0


@pytest.mark.parametrize("count", [1, 3, 4, 6])
@pytest.mark.parametrize("fixed_batch", [1, 4])
def test_feature_gradients_do_not_depend_on_a_fixed_batch(
    pixels: Tensor, count: int, fixed_batch: int
) -> None:
    free = evaluator(seeded(FunctionalRelu))
    bound = evaluator(OnlyBatchesOf(seeded(FunctionalRelu), fixed_batch), fixed_batch=fixed_batch)
    found = []
    for subject in (free, bound):
        layer = search_layer(subject, pixels[:1], 0).found()
        activation, gradient = subject.feature_gradients(pixels[:count], layer, 0)
        assert gradient is not None
        assert activation.shape == gradient.shape == (count, 6, 4, 4)
        found.append((activation, gradient))
    assert alike(found[0][0], found[1][0])
    assert alike(found[0][1], found[1][1])


def test_gradients_flow_through_a_fixed_batch(pixels: Tensor) -> None:
    gradients = []
    for size in (None, 4):
        network = seeded(FunctionalRelu)
        subject = evaluator(OnlyBatchesOf(network, size) if size else network, fixed_batch=size)
        leaf = pixels.clone().requires_grad_()
        subject.scores(leaf)[:, 1].sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
        assert (subject.counter.forward, subject.counter.backward) == (COUNT, COUNT)
    assert alike(*gradients)


def test_a_network_that_views_its_features_runs(pixels: Tensor, reference: Tensor) -> None:
    assert alike(streamed(evaluator(seeded(Viewing)), pixels), reference)


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    pixels: Tensor, reference: Tensor
) -> None:
    network = ShortOfMemory(seeded(FunctionalRelu), most=2)
    subject = evaluator(network, batch_size=7)
    assert alike(streamed(subject, pixels), reference)
    assert network.sizes == [7, 4, 2, 2, 2, 1]
    assert subject.batch_size == 2
    assert subject.counter.forward == COUNT


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_one_picture_too_many_is_a_sentence(error: Exception, pixels: Tensor) -> None:
    def build(start: int, stop: int) -> Tensor:
        raise error

    with pytest.raises(ModelError, match="One picture at a time already needs more memory"):
        evaluator(seeded(FunctionalRelu), batch_size=4).stream(COUNT, build)


def test_other_errors_pass_unchanged(pixels: Tensor) -> None:
    subject = evaluator(OnlyBatchesOf(seeded(FunctionalRelu), 4), batch_size=7)
    with pytest.raises(RuntimeError, match="a batch of 7 where 4 was expected"):
        streamed(subject, pixels)
    assert subject.batch_size == 7


def test_work_within_memory_is_tried_with_half_the_batch() -> None:
    seen = []

    def run(size: int) -> int:
        seen.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("too much")
        return size

    assert evaluator(seeded(FunctionalRelu), batch_size=10).within_memory(run) == 3
    assert seen == [10, 5, 3]


def test_both_directions_are_counted_where_they_are_taken(pixels: Tensor) -> None:
    subject = evaluator(seeded(FunctionalRelu))
    leaf = pixels.clone().requires_grad_()
    scores = subject.scores(leaf)
    assert (subject.counter.forward, subject.counter.backward) == (7, 0)
    torch.autograd.grad(scores[:, 0].sum(), leaf)
    assert (subject.counter.forward, subject.counter.backward) == (7, 7)
    layer = search_layer(subject, pixels[:1], 0).found()
    # Two pictures list the layers, one gives the scores, one gradients of two classes, four have
    # spots; four are made of each of five random maps and of the map of each layer, beside two.
    found = subject.counter.forward
    assert found - 7 - (2 + 1 + 1 + 4 + 4 * 5 + 2) in (4, 8, 12, 16)
    assert subject.counter.backward == 7 + 2
    subject.feature_gradients(pixels, layer, 0)
    assert (subject.counter.forward, subject.counter.backward) == (found + 7, 16)
    streamed(subject, pixels)
    assert (subject.counter.forward, subject.counter.backward) == (found + 14, 16)


@pytest.mark.parametrize(
    ("dtype", "wide", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-6),
        # bfloat16 keeps 8 bits: one part in 256 of values below 1.
        (torch.bfloat16, torch.float32, 1 / 256),
    ],
)
def test_networks_of_other_precisions(
    pixels: Tensor, reference: Tensor, dtype: torch.dtype, wide: torch.dtype, tolerance: float
) -> None:
    subject = evaluator(seeded(FunctionalRelu).to(dtype))
    found = streamed(subject, pixels)
    assert found.dtype == wide
    assert float((found.double() - reference.double()).abs().max()) < tolerance
    assert subject.precision == str(dtype).removeprefix("torch.")
    leaf = pixels.clone().requires_grad_()
    gradient = torch.autograd.grad(subject.scores(leaf)[:, 0].sum(), leaf)[0]
    assert gradient.dtype == torch.float32
    assert bool(gradient.any())


def test_outputs_that_turn_infinite_end_one_step(pixels: Tensor) -> None:
    subject = evaluator(Fixed(torch.tensor([1.0, float("inf")])))
    with pytest.raises(NotApplicable, match="NaN or infinite outputs on a changed picture"):
        streamed(subject, pixels)


def test_normalisation_happens_inside(pixels: Tensor) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    network = seeded(FunctionalRelu)
    normalisation = Normalisation(mean, std)
    subject = Evaluator(network, HEADS["softmax"], normalisation, torch.device("cpu"), Batches(32))
    by_hand = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert alike(subject.raw(pixels), network(by_hand))


def state_of(network: nn.Module) -> tuple[object, ...]:
    """Return all that borrowing must not change, in a form that can be compared."""
    modules = list(network.modules())
    parameters = list(network.parameters())
    return (
        [m.training for m in modules],
        [p.requires_grad for p in parameters],
        [id(p.grad) for p in parameters],
        [None if p.grad is None else p.grad.tolist() for p in parameters],
        [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in modules],
        {name: tensor.tolist() for name, tensor in network.state_dict().items()},
    )


def used() -> nn.Module:
    """Return a network in the middle of its training, with a hook of its user's."""
    network = seeded(FunctionalRelu).train()
    network.features.eval()
    network.conv.weight.requires_grad_(False)
    network(pictures(2)).sum().backward()
    network.fc.register_forward_hook(lambda module, inputs, output: None)
    return network


def explains(network: nn.Module) -> None:
    with classified(network, SHAPE) as classifier:
        layer = classifier.feature_layer(pictures(1)[0], 0)
        classifier.evaluator.feature_gradients(pictures(1), layer, 0)
        assert not any(m.training for m in network.modules())
        assert not any(p.requires_grad for p in network.parameters())


def is_misused(network: nn.Module) -> None:
    with classified(network, SHAPE) as classifier:
        classifier.predict(pictures(1)[0], "no such class")


def crashes(network: nn.Module) -> None:
    with classified(network, SHAPE) as classifier:
        classifier.feature_layer(torch.zeros(5, 16, 16), 0)


def crashes_when_opened(network: nn.Module) -> None:
    with classified(network, (5, 16, 16)):
        raise AssertionError("a network for 3 channels was opened for 5")


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (explains, None),
        (is_misused, UsageError),
        (crashes, NotApplicable),
        (crashes_when_opened, ModelError),
    ],
)
def test_a_borrowed_network_is_left_as_it_was_found(
    use: Callable[[nn.Module], None], error: type[Exception] | None
) -> None:
    network = used()
    before = state_of(network)
    if error:
        with pytest.raises(error):
            use(network)
    else:
        use(network)
    assert state_of(network) == before


def test_the_comparison_of_states_can_fail() -> None:
    before = state_of(used())
    for spoil in (
        lambda network: network.train(),
        lambda network: network.conv.requires_grad_(),
        lambda network: network.fc.weight.grad.add_(1),
        lambda network: network.fc.weight.data.add_(1),
        lambda network: network.fc.register_forward_hook(print),
    ):
        network = used()
        same = state_of(network)[5]
        spoil(network)
        assert state_of(network) != before
        assert same == before[5]


def test_users_hooks_still_run_while_layers_are_watched(pixels: Tensor) -> None:
    network = seeded(FunctionalRelu)
    seen: list[tuple[int, ...]] = []
    network.conv.register_forward_hook(lambda m, inputs, output: seen.append(output.shape))
    subject = evaluator(network)
    layer = search_layer(subject, pixels[:1], 0).found()
    assert {shape[1:] for shape in seen} == {(6, 4, 4)}
    subject.feature_gradients(pixels, layer, 0)
    assert seen[-1] == (COUNT, 6, 4, 4)
    assert len(network.conv._forward_hooks) == 1


def test_borrowing_a_frozen_script_changes_nothing() -> None:
    network = frozen(seeded(Constant), SHAPE)
    with borrowed(network):
        assert network(pictures(1)).shape == (1, 3)


def test_the_order_in_memory_changes_no_output(pixels: Tensor, reference: Tensor) -> None:
    batches = Batches(8, channels_last=True)
    network, cpu = seeded(FunctionalRelu), torch.device("cpu")
    last = Evaluator(network, HEADS["softmax"], PLAIN, cpu, batches)
    assert last.normalised(pixels).is_contiguous(memory_format=torch.channels_last)
    assert alike(streamed(last, pixels), reference)


class Flattening(nn.Module):
    """Flattens with ``view``, which needs the plain order in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4 * 14 * 14, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.convolution(x).view(len(x), -1))
        return scores


@pytest.mark.parametrize(("network", "accepted"), [(FunctionalRelu, True), (Flattening, False)])
def test_networks_that_view_their_activations_keep_the_plain_order(
    network: Callable[[], nn.Module], accepted: bool
) -> None:
    opened = Opened(network=seeded(network), name="toy", format="module", architecture="toy")
    asked = Preprocessing(channels=3, resize=16, crop=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    known = probe(opened, asked, torch.device("cpu"))
    assert accepts_channels_last(opened, known) is accepted


@pytest.mark.parametrize("fixed_batch", [None, 1, 4])
def test_features_are_read_without_a_backward_pass(pixels: Tensor, fixed_batch: int | None) -> None:
    network = seeded(FunctionalRelu)
    bound = OnlyBatchesOf(network, fixed_batch) if fixed_batch else network
    subject = evaluator(bound, fixed_batch=fixed_batch)
    layer = search_layer(subject, pixels[:1], 0).found()
    before = (subject.counter.forward, subject.counter.backward)
    found = subject.features(pixels, layer)
    assert alike(found, network.conv(network.features(pixels)).relu())
    assert not found.requires_grad
    assert (subject.counter.forward - before[0], subject.counter.backward - before[1]) == (COUNT, 0)


@pytest.mark.parametrize("fixed_batch", [None, 1, 4])
def test_a_network_is_resumed_whatever_the_batch(pixels: Tensor, fixed_batch: int | None) -> None:
    network = seeded(FunctionalRelu)
    bound = OnlyBatchesOf(network, fixed_batch) if fixed_batch else ShortOfMemory(network, 2)
    subject = evaluator(bound, 7, fixed_batch)
    layer = search_layer(subject, pixels[:1], 0).found()
    changed = pictures(COUNT, 6, 4, 4)
    found = subject.resumed(
        pixels[:1], layer.resume, COUNT, lambda start, stop: changed[start:stop]
    )
    assert alike(found, network.fc(changed.mean((2, 3))))
    assert subject.batch_size == (7 if fixed_batch else 2)


def test_infinite_outputs_of_a_resumed_network_end_one_step(pixels: Tensor) -> None:
    subject = evaluator(seeded(FunctionalRelu))
    layer = search_layer(subject, pixels[:1], 0).found()
    with pytest.raises(NotApplicable, match="NaN or infinite outputs"):
        subject.resumed(
            pixels[:1],
            layer.resume,
            2,
            lambda start, stop: torch.full((stop - start, 6, 4, 4), torch.inf),
        )
