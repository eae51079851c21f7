"""An ONNX file is read as data, and one that cannot be used is refused in a sentence."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_toys import PLAIN, Form, toy, written

from reportgen.classifier.loading import open_model
from reportgen.classifier.onnx_graphs import read_graph
from reportgen.errors import ModelError


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def saved(model: onnx.ModelProto, folder: Path, **options: Any) -> Path:
    onnx.save(model, folder / "toy.onnx", **options)
    return folder / "toy.onnx"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (PLAIN, (None, 3, (16, 16), False)),
        (replace(PLAIN, batch=2, channels_last=True), (2, 3, (16, 16), True)),
        (replace(PLAIN, sides=(24, 16)), (None, 3, (24, 16), False)),
        (replace(PLAIN, sides=("h", "w"), channels_last=True), (None, 3, None, True)),
    ],
)
def test_the_input_is_read_from_the_graph(
    form: Form, expected: tuple[object, ...], tmp_path: Path
) -> None:
    found = read_graph(written(tmp_path, form)).intake
    assert (found.batch, found.channels, found.size, found.channels_last) == expected


def test_a_free_layout_is_told_by_the_first_turn(tmp_path: Path) -> None:
    for last in (True, False):
        model = toy(replace(PLAIN, channels_last=last))
        for dim in model.graph.input[0].type.tensor_type.shape.dim:
            dim.dim_param = "any"
        found = read_graph(saved(model, tmp_path)).intake
        assert (found.channels_last, found.channels) == (last, 3)


def test_an_array_has_the_layout_and_the_numbers_of_the_input(tmp_path: Path) -> None:
    batch = torch.full((2, 3, 16, 16), 254.6)
    form = Form(TensorProto.UINT8, channels_last=True)
    whole = read_graph(written(tmp_path, form)).intake.array(batch)
    assert (whole.shape, str(whole.dtype), int(whole.max())) == ((2, 16, 16, 3), "uint8", 255)
    plain = read_graph(written(tmp_path)).intake.array(batch)
    assert (plain.shape, str(plain.dtype)) == ((2, 3, 16, 16), "float32")


def beside(folder: Path, location: str) -> Path:
    """Write the toy with its weights in a file, which the model then says is at ``location``."""
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = saved(toy(), folder, **options)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    return saved(model, folder)


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    assert open_model(beside(tmp_path, "weights.bin")).format == "ONNX"


@pytest.mark.parametrize("kind", ["absolute", "above", "linked"])
def test_weights_elsewhere_are_not_read(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    beside(folder, "weights.bin")
    secret.write_bytes((folder / "weights.bin").read_bytes())
    (folder / "link.bin").symlink_to(secret)
    places = {"absolute": str(secret), "above": "../secret.bin", "linked": "link.bin"}
    message = refused(beside(folder, places[kind]))
    assert f"names weights outside its own folder ('{places[kind]}')" in message


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = beside(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    assert "are in 'weights.bin', which is missing; put that file beside it" in refused(path)


def test_cut_weights_are_damage(tmp_path: Path) -> None:
    path = beside(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"short")
    assert "may be damaged; copy or download it again (onnx" in refused(path)


def test_custom_operators_are_named(tmp_path: Path) -> None:
    model = toy()
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node[2].domain, model.graph.node[2].op_type = "acme", "Squash"
    message = refused(saved(model, tmp_path))
    assert "uses operators that are not part of ONNX: Squash (acme)" in message


def test_functions_of_the_model_itself_are_no_custom_operators(tmp_path: Path) -> None:
    model = toy()
    model.opset_import.append(helper.make_opsetid("acme", 1))
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("acme", "Squash", ["x"], ["y"], body, opsets))
    model.graph.node[2].domain, model.graph.node[2].op_type = "acme", "Squash"
    assert "onnx2torch" in open_model(saved(model, tmp_path)).notes[0]


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ((1, 3), TensorProto.FLOAT, "'pictures' (float: 1, 3)"),
        (("n", "text"), TensorProto.STRING, "'pictures' (string: n, text)"),
        ((1, 3, 4, 4), TensorProto.INT64, "'pictures' (int64: 1, 3, 4, 4)"),
    ],
)
def test_what_takes_no_pictures_is_refused(
    shape: tuple[int | str, ...], kind: int, said: str, tmp_path: Path
) -> None:
    model = toy()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("pictures", kind, shape))
    message = refused(saved(model, tmp_path))
    assert f"takes {said}, where one batch of pictures" in message


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = toy()
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, (1, 1)))
    assert "'pictures' (float: n, 3, 16, 16), 'age' (float: 1, 1), where" in refused(
        saved(model, tmp_path)
    )


def test_weights_that_are_inputs_too_are_no_further_inputs(tmp_path: Path) -> None:
    model = toy()
    for tensor in model.graph.initializer:
        kind = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(kind)
    assert open_model(saved(model, tmp_path)).notes


def test_classes_without_scores_are_refused(tmp_path: Path) -> None:
    best = helper.make_node("ArgMax", ["scores"], ["class"], axis=1)
    form = replace(PLAIN, added=(best,), outputs=(("class", TensorProto.INT64),))
    assert "gives 'class' (int64: no shape), and no class scores" in refused(
        written(tmp_path, form)
    )


def test_a_graph_that_onnxruntime_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    model = toy()
    model.graph.node[1].op_type = "Ceiling"
    assert "(onnxruntime says: " in refused(saved(model, tmp_path))


@pytest.mark.parametrize("content", [b"\x08\x01\x12\x04\xff\xff\xff\xff", b"\x08\x07\x12\x01a"])
def test_what_only_begins_as_onnx_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert "holds no ONNX graph that can be read" in refused(tmp_path / "model.onnx")


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_file_is_told(kept: float, tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "toy.onnx'" in refused(path)


@pytest.mark.parametrize("name", ["onnx", "onnx2torch", "onnxruntime"])
def test_a_missing_library_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, find = written(tmp_path), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == name else find(asked)
    )
    assert refused(path) == (
        f"ONNX files need {name}, which is not installed; install it with: pip install "
        "'reportgen[onnx]'."
    )
