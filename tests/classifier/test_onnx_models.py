"""ONNX files become PyTorch networks that say the same, or are run as they are, with the reason."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx_toys import CLASSES, PLAIN, SIDE, Form, as_module, exported, toy, written
from torch import Tensor, nn
from torch.nn import functional as F

from reportgen.classifier import onnx_conversion
from reportgen.classifier.black_box import BlackBox, reason_of
from reportgen.classifier.classifier import classifier_from, weights_hash
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.classifier.photograph import photograph
from reportgen.classifier.randomisation import stages
from reportgen.config import Config
from reportgen.errors import NotApplicable, UsageError


def noise(count: int = 4, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def asked(path: Path, batch: Tensor) -> Tensor:
    """Return what the file's network says of a batch."""
    with torch.no_grad():
        output = open_model(path).network(batch)
    assert isinstance(output, Tensor)
    return output


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


FORMS = {
    "plain": PLAIN,
    "channels last": replace(PLAIN, channels_last=True),
    "one picture at a time": replace(PLAIN, batch=1),
    "four at a time": replace(PLAIN, batch=4),
    "any size": replace(PLAIN, sides=("h", "w")),
    "an old definition": replace(PLAIN, opset=9),
    "a new definition": replace(PLAIN, opset=21),
    "half precision": replace(PLAIN, kind=TensorProto.FLOAT16),
    "double precision": replace(PLAIN, kind=TensorProto.DOUBLE),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_file_becomes_a_network_that_says_the_same(form: Form, tmp_path: Path) -> None:
    opened = open_model(written(tmp_path, form))
    assert (opened.format, opened.fixed_batch) == ("ONNX", None)
    assert reason_of(opened.network) == ""
    rough = 1e-2 if form.kind == TensorProto.FLOAT16 else 1e-5
    with torch.no_grad():
        agree(opened.network(noise(4)), as_module()(noise(4)), rough)


def test_a_comparison_with_other_weights_fails() -> None:
    other = as_module()
    with torch.no_grad():
        next(other.parameters()).mul_(1.001)
        with pytest.raises(AssertionError):
            agree(other(noise()), as_module()(noise()))


def test_what_the_file_says_is_known(tmp_path: Path) -> None:
    labels = "{0: 'ant', 1: 'bee', 2: 'cat', 3: 'dog', 4: 'eel'}"
    entries = (("names", labels), ("mean", "[0.1, 0.2, 0.3]"), ("std", "[0.5, 0.5, 0.5]"))
    hints = open_model(written(tmp_path, replace(PLAIN, metadata=entries))).hints
    assert hints.labels and hints.labels.value == ("ant", "bee", "cat", "dog", "eel")
    assert hints.mean and hints.mean.value == (0.1, 0.2, 0.3)
    assert hints.crop and hints.crop.value == (SIDE, SIDE)
    assert hints.channels and hints.channels.value == 3


@pytest.mark.parametrize("text", ["cat", "{'a': 1}", "[1, 2]", "__import__('os')", "[" * 9999])
def test_free_text_about_labels_is_left_alone(text: str, tmp_path: Path) -> None:
    entries = (("labels", text), ("mean", text))
    hints = open_model(written(tmp_path, replace(PLAIN, metadata=entries))).hints
    assert hints.labels is None
    assert hints.mean is None


def test_whole_numbers_are_made_of_pixels(tmp_path: Path) -> None:
    opened = open_model(written(tmp_path, Form(TensorProto.UINT8, channels_last=True)))
    pixels = (noise() * 255).round() / 255
    config = Config(device="cpu")
    with classifier_from(opened, Hints(), config) as classifier:
        found = classifier.evaluator.raw(pixels)
    agree(found, as_module()(pixels * 255).detach())


def test_several_outputs_bear_their_names(tmp_path: Path) -> None:
    outputs = (("flat", TensorProto.FLOAT), ("scores", TensorProto.FLOAT))
    output = open_model(written(tmp_path, replace(PLAIN, outputs=outputs))).network(noise())
    assert {name: tuple(values.shape) for name, values in output.items()} == {
        "flat": (4, 4),
        "scores": (4, CLASSES),
    }


def test_weights_are_parameters_that_can_be_drawn_anew(tmp_path: Path) -> None:
    with classifier_from(open_model(written(tmp_path)), Hints(), Config()) as classifier:
        assert classifier.record.parameters == 4 * 3 * 9 + 5 * 4 + 5
        drawn = stages(classifier, noise(1)[0], 2)
    assert sum(len(stage.weights) for stage in drawn) == 3


class Block(nn.Module):
    """What a transformer computes: patches as tokens, attention, GELU, and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.Linear(8, 24)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        q, k, v = self.attention(self.norm(x)).chunk(3, dim=-1)
        x = x + (q @ k.transpose(1, 2)).softmax(dim=-1) @ v
        return self.head((x + self.mlp(x))[:, 0])


@pytest.mark.parametrize("opset", [9, 12, 17, 20])
def test_a_transformer_is_converted(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Block()
    path = exported(network, noise(2), tmp_path / "block.onnx", opset_version=opset)
    opened = open_model(path)
    assert reason_of(opened.network) == ""
    with torch.no_grad():
        agree(opened.network(noise(3)), network(noise(3)))
    left = [name for name, buffer in opened.network.named_buffers() if buffer.is_floating_point()]
    sizes = [dict(opened.network.named_buffers())[name].numel() for name in left]
    assert max(sizes, default=1) == 1  # no weight is hidden among the constants


def test_the_newer_exporter_is_read_with_its_weights_beside(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network, path = Block().eval(), tmp_path / "block.onnx"
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (noise(2),), path, dynamo=True, dynamic_shapes=(batch,), verbose=False
        )
    assert (tmp_path / "block.onnx.data").is_file()
    opened = open_model(path)
    assert reason_of(opened.network) == ""
    with torch.no_grad():
        agree(opened.network(noise(3)), network(noise(3)))


def quantised(folder: Path) -> Path:
    """Write the toy with its scores rounded to eight bits on the way."""
    scale = helper.make_node("Constant", [], ["scale"], value_float=0.05)
    zero = helper.make_node(
        "Constant", [], ["zero"], value=helper.make_tensor("z", TensorProto.INT8, (), [0])
    )
    rounded = helper.make_node("QuantizeLinear", ["scores", "scale", "zero"], ["eight"])
    back = helper.make_node("DequantizeLinear", ["eight", "scale", "zero"], ["logits"])
    outputs = (("logits", TensorProto.FLOAT),)
    return written(folder, replace(PLAIN, added=(scale, zero, rounded, back), outputs=outputs))


def test_a_quantised_model_is_run_by_onnxruntime(tmp_path: Path) -> None:
    opened = open_model(quantised(tmp_path))
    assert isinstance(opened.network, BlackBox)
    assert opened.network.reason == (
        "onnxruntime runs it: onnx2torch has nothing for its operators DequantizeLinear, "
        "QuantizeLinear"
    )
    found = opened.network(noise())
    assert isinstance(found, Tensor)
    agree(found, as_module()(noise()).detach(), 0.1)
    with pytest.raises(NotApplicable, match="predictions only, because onnxruntime runs it"):
        opened.network(noise().requires_grad_())


def test_onnxruntime_is_given_batches_of_the_stated_size(tmp_path: Path) -> None:
    path = quantised(tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    opened = open_model(path)
    assert opened.fixed_batch == 2
    with classifier_from(opened, Hints(), Config()) as classifier:
        assert classifier.evaluator.raw(noise(5)).shape == (5, CLASSES)


def test_a_model_run_by_onnxruntime_is_counted_and_hashed(tmp_path: Path) -> None:
    network = open_model(quantised(tmp_path)).network
    assert isinstance(network, BlackBox)
    assert network.parameter_count == 4 * 3 * 9 + 5 * 4 + 5
    assert len(weights_hash(network) or "") == 64
    model = onnx.load(tmp_path / "toy.onnx")
    model.graph.initializer[2].raw_data = np.zeros(CLASSES, np.float32).tobytes()
    onnx.save(model, tmp_path / "toy.onnx")
    assert weights_hash(open_model(tmp_path / "toy.onnx").network) != weights_hash(network)


def test_a_conversion_that_says_something_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = onnx_conversion._mend

    def spoilt(network: nn.Module) -> None:
        mend(network)
        with torch.no_grad():
            next(p for p in network.parameters() if p.ndim == 2).mul_(1.001)

    monkeypatch.setattr(onnx_conversion, "_mend", spoilt)
    opened = open_model(written(tmp_path))
    assert "gives other outputs (they differ by" in reason_of(opened.network)
    agree(opened.network(noise()), as_module()(noise()).detach())


class Chaotic(nn.Module):
    """What pixels above a limit give hangs on the last digit; white noise has some above 1."""

    def __init__(self, limit: float, elsewhere: float = 0.0) -> None:
        super().__init__()
        self.limit = limit
        self.elsewhere = elsewhere
        self.conv = nn.Conv2d(3, CLASSES, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        chaos = (self.conv(F.relu(x - self.limit)) * 1e6).sin()
        chaos = chaos + self.elsewhere * (self.conv(x) * 1e6).sin()
        scores: Tensor = self.conv(x).mean((2, 3)) + chaos.mean((2, 3))
        return scores


def test_noise_that_rounding_decides_tells_nothing_of_a_conversion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for network in (Chaotic(1.0), Chaotic(1.0, elsewhere=2e-3)):
        opened = open_model(exported(network, noise(2), tmp_path / "white.onnx"))
        assert not isinstance(opened.network, BlackBox)
        agree(opened.network(noise()).detach(), network(noise()).detach())
    everywhere = open_model(exported(Chaotic(0.0), noise(2), tmp_path / "all.onnx"))
    assert "gives other outputs (they differ by" in reason_of(everywhere.network)


class CalmForPhotographs(nn.Module):
    """Values that no photograph has, and pictures without dark ones, hang on the last digit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        odd = F.relu(x - 2.5) + x * F.relu(x.amin((1, 2, 3), keepdim=True) + 1)
        chaos = (self.conv(odd) * 1e6).sin()
        scores: Tensor = self.conv(x).mean((2, 3)) + chaos.mean((2, 3))
        return scores


def test_where_rounding_decides_all_noise_a_photograph_tells(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CalmForPhotographs()
    opened = open_model(exported(network, noise(2), tmp_path / "calm.onnx"))
    assert not isinstance(opened.network, BlackBox)
    shown = photograph(3, (SIDE, SIDE))
    agree(opened.network(shown).detach(), network(shown).detach())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_photograph_fits_the_network(channels: int) -> None:
    shown = photograph(channels, (20, 30))
    assert shown.shape == (1, channels, 20, 30)
    assert abs(float(shown.mean())) < 0.5
    assert 0.3 < float(shown.std()) < 1


class Standardised(nn.Module):
    """Its convolution has weights that are standardised whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, CLASSES, -1)
        weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight).relu().mean((2, 3))


def test_weights_that_the_graph_computes_are_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network, path = Standardised(), tmp_path / "standardised.onnx"
    exported(network, noise(2), path, do_constant_folding=False)
    opened = open_model(path)
    import onnx2torch  # which can only be imported beside this torch once a model was opened

    with pytest.raises(NotImplementedError):
        onnx2torch.convert(onnx.load(path))
    assert not isinstance(opened.network, BlackBox)
    assert sum(p.numel() for p in opened.network.parameters()) == network.weight.numel()
    agree(opened.network(noise()).detach(), network(noise()).detach())
    assert capfd.readouterr().err == ""


def test_a_device_that_onnxruntime_has_not_is_refused(tmp_path: Path) -> None:
    opened = open_model(quantised(tmp_path))
    with (
        pytest.raises(UsageError, match=r"device 'mps' is not possible .*onnxruntime runs it"),
        classifier_from(opened, Hints(), Config(device="mps")),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"Precision bf16 is not possible: .*onnxruntime runs it"),
        classifier_from(opened, Hints(), Config(precision="bf16")),
    ):
        pass


def test_the_reference_is_onnxruntime_itself(tmp_path: Path) -> None:
    path = written(tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"pictures": noise().numpy()})[0]
    agree(asked(path, noise()), torch.from_numpy(expected))
    assert toy().graph.name == "toy"
