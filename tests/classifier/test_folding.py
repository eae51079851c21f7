"""Copies for passes without gradients: the same outputs, used only where they hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import (
    CLASSES,
    Normalised,
    Shape,
    TinyViT,
    _ConvNet,
    as_opened,
    classified,
    eager,
    exported,
    frozen,
    hints,
    pictures,
    scripted,
    seeded,
    symbolic,
    traced,
)

from reportgen.classifier import probing
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.device import tf32
from reportgen.classifier.evaluator import Batches, Copies, Evaluator
from reportgen.classifier.folding import folded, reduced, rounded
from reportgen.classifier.heads import HEADS
from reportgen.classifier.normalisation import Normalisation
from reportgen.classifier.randomisation import randomised, stages
from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError
from reportgen.perturbation.streams import stream

SHAPE = (3, 16, 16)
Form = Callable[[nn.Module, Shape], nn.Module]
FORMS: tuple[Form, ...] = (eager, traced, scripted, exported, symbolic)
# Folding multiplies the constants in another order; the largest difference measured is 4e-16.
ROUNDING = 1e-13


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= ROUNDING


class Deciding(Normalised):
    """Decides by looking at its input, in Python."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if bool(x.mean() > 0.5) else 2 * x)


class Counting(nn.Module):
    """Returns the same scores always, and counts the pictures."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.scores.expand(len(x), -1)


def double(network: nn.Module) -> nn.Module:
    return network.double()


@pytest.mark.parametrize("form", FORMS)
def test_a_folded_copy_gives_the_networks_outputs_for_any_batch(form: Form) -> None:
    network = seeded(Normalised)
    changed = form(network, SHAPE)
    for count in (1, 2, 5):
        pixels = pictures(count).double()
        copy = folded(double(changed), pictures(2).double())
        assert copy is not None
        with torch.inference_mode():
            assert same(copy(pixels), double(network)(pixels))  # type: ignore[arg-type]


class Partly(nn.Module):
    """A network whose convolutions are a script."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.jit.script(Normalised().eval())
        self.last = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.body(x))
        return scores


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_network_with_a_script_inside_is_folded() -> None:
    network, pixels = double(seeded(Partly)), pictures(5).double()
    copy = folded(network, pictures(2).double())
    assert copy is not None
    with torch.inference_mode():
        assert same(copy(pixels), network(pixels))  # type: ignore[arg-type]


def test_a_network_is_recorded_in_one_piece_and_frozen_only_to_be_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[torch.jit.ScriptModule] = []
    freeze = torch.jit.freeze

    def frozen_copy(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        recorded.append(module)
        return freeze(module)

    monkeypatch.setattr("torch.jit.freeze", frozen_copy)
    assert folded(seeded(TinyViT), pictures(2)) is None
    assert not recorded
    assert folded(seeded(Normalised), pictures(2)) is not None
    names = [name for name, _ in recorded[0].named_modules()]
    assert names == [""]


def test_the_comparison_sees_a_wrong_weight() -> None:
    network, pixels = double(seeded(Normalised)), pictures(3).double()
    copy = folded(network, pixels)
    assert copy is not None
    network.get_parameter("features.1.bias").data[0] += 1e-9
    with torch.inference_mode():
        assert not same(copy(pixels), network(pixels))  # type: ignore[arg-type]


def test_nothing_is_left_of_batch_normalisation() -> None:
    copy = folded(seeded(Normalised), pictures(2))
    assert isinstance(copy, torch.jit.ScriptModule)
    assert "batch_norm" not in str(copy.graph)


@pytest.mark.parametrize(
    "network",
    [
        seeded(_ConvNet),
        seeded(Deciding),
        frozen(seeded(Normalised), SHAPE),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).eval(),
    ],
    ids=["cannot run", "decides by its input", "frozen already", "nothing to fold into"],
)
def test_there_is_no_copy_where_nothing_can_be_folded(network: nn.Module) -> None:
    assert folded(network, pictures(2)) is None


def test_the_network_is_left_as_it_was() -> None:
    network = seeded(Normalised)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    flags = [(m.training, len(m._forward_hooks)) for m in network.modules()]
    folded(network, pictures(2))
    reduced(network, pictures(2), torch.bfloat16)
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert flags == [(m.training, len(m._forward_hooks)) for m in network.modules()]
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_a_reduced_copy_computes_in_the_other_format(form: Form) -> None:
    network = form(seeded(Normalised), SHAPE)
    pixels = pictures(3)
    copy = reduced(network, pixels, torch.bfloat16)
    with torch.inference_mode():
        found, own = copy(pixels.bfloat16()), network(pixels)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits; the largest difference measured is 0.003.
    assert 0 < float((found - own).abs().max()) < 0.01


def test_a_network_that_cannot_change_its_format_is_named() -> None:
    fixed = frozen(seeded(Normalised), SHAPE)
    with pytest.raises(NotApplicable, match=r"does not run in bfloat16: .*type"):
        reduced(fixed, pictures(2), torch.bfloat16)
    with pytest.raises(UsageError, match="Precision bf16 is not possible: the model does not run"):
        _ready(fixed, precision="bf16")
    with pytest.raises(UsageError, match="tf32 exists on NVIDIA GPUs only"):
        _ready(seeded(Normalised), precision="tf32")


def _ready(network: nn.Module, **options: object) -> Classifier:
    config = Config(device="cpu", **options)  # type: ignore[arg-type]
    with classifier_from(as_opened(network), hints(SHAPE, "softmax"), config) as classifier:
        return classifier


@pytest.mark.parametrize("fixed_batch", [None, 1, 4, 11])
def test_a_classifier_streams_through_its_folded_copy(fixed_batch: int | None) -> None:
    network = seeded(Normalised)
    pixels = pictures(6)
    with classified(network, SHAPE, fixed_batch=fixed_batch) as classifier:
        assert classifier.evaluator.copies.folded is not None
        found = classifier.probabilities(pixels)
        assert classifier.evaluator.counter.forward == 6
    with torch.inference_mode():
        # In float32; the largest difference measured is 6e-8.
        assert float((found - network(pixels).softmax(1)).abs().max()) < 1e-6
    assert _ready(network, folding=False).evaluator.copies.folded is None


def test_a_copy_that_gives_other_outputs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Counting(torch.arange(CLASSES) / 10)
    monkeypatch.setattr(probing, "folded", lambda network, batch: wrong)
    assert _ready(seeded(Normalised)).evaluator.copies.folded is None
    assert wrong.seen > 0
    monkeypatch.setattr(probing, "folded", lambda network, batch: seeded(Normalised))
    assert _ready(seeded(Normalised)).evaluator.copies.folded is not None


def _evaluator(network: nn.Module, copies: Copies) -> Evaluator:
    plain = Normalisation((0.0,) * 3, (1.0,) * 3)
    return Evaluator(network, HEADS["softmax"], plain, torch.device("cpu"), Batches(4), copies)


def test_only_passes_without_gradients_go_through_copies() -> None:
    own, copy, coarse = (Counting(torch.eye(3)[i]) for i in range(3))
    copies = Copies(copy, coarse, "bfloat16", torch.bfloat16)
    evaluator, pixels = _evaluator(own, copies), pictures(6)

    def stream_() -> int:
        return int(evaluator.stream(6, lambda i, j: pixels[i:j]).argmax(1).unique())

    assert stream_() == 1
    assert evaluator.precision == "float32"
    evaluator.reducing = True
    assert stream_() == 2
    assert evaluator.precision == "bfloat16; with gradients float32"
    with evaluator.altered():
        assert stream_() == 0
    assert stream_() == 2
    evaluator.raw(pixels)
    evaluator.scores(pixels)
    assert (own.seen, copy.seen, coarse.seen) == (18, 6, 12)
    assert evaluator.counter.forward == 36


def test_a_destroyed_model_is_not_streamed_through_the_copy_of_the_whole_one() -> None:
    pixels = pictures(4)
    with classified(seeded(Normalised), SHAPE) as classifier:
        before = classifier.probabilities(pixels)
        chosen = stages(classifier, pixels[0], 2)
        with randomised(classifier, chosen, lambda name: stream(0, name), pixels):
            destroyed = classifier.probabilities(pixels)
        assert float((destroyed - before).abs().max()) > 0.01
        assert torch.equal(classifier.probabilities(pixels), before)


def test_tf32_is_put_back_and_left_to_who_sets_it_apart() -> None:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (convolutions.allow_tf32, products.allow_tf32)

    def inside(batch: Tensor) -> object:
        return (convolutions.allow_tf32, products.allow_tf32)

    with pytest.raises(ValueError, match="broken"), tf32(False):
        assert inside(torch.ones(1)) == (False, False)
        assert rounded(inside)(torch.ones(1)) == (True, True)
        assert inside(torch.ones(1)) == (False, False)
        raise ValueError("broken")
    assert inside(torch.ones(1)) == before


def test_a_real_network_loses_its_batch_normalisation_and_nothing_else(assets) -> None:  # type: ignore[no-untyped-def]
    from reportgen.classifier.loading import open_model

    opened = open_model(assets / "weights" / "mobilenet_v2_imagenet.pth")
    pixels = torch.cat([pictures(3, 3, 224, 224), torch.rand(1, 3, 224, 224)])
    network = opened.network.double()
    copy = folded(network, pixels[:2].double())
    assert copy is not None
    with torch.inference_mode():
        own, found = network(pixels.double()), copy(pixels.double())
    assert isinstance(found, Tensor)
    # Scores of up to 10 in float64; the largest difference measured is 2e-14.
    assert float((own - found).abs().max()) < 1e-11
