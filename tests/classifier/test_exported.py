"""Exported programs are opened as networks, and only where that runs no code of their author."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import SmallNet
from torch import Tensor, fx, nn
from torch.export import Dim, export, save
from toys import StandardisedWeights

from reportgen.classifier.exported import read_exported
from reportgen.classifier.exported_safety import unsafe_part
from reportgen.classifier.metadata import Hints, Known
from reportgen.errors import ModelError

Members = dict[str, bytes]
GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
EXAMPLE = "data/sample_inputs/model.pt"

HINTS = Hints(channels=Known(3, "file"), crop=Known((16, 20), "file"))


def network() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().eval()


def write(path: Path, module: nn.Module, *example: Tensor, **options: Any) -> Path:
    shapes = options.pop("dynamic_shapes", None)
    save(export(module, example, dynamic_shapes=shapes), path, **options)
    return path


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(
        tmp_path_factory.mktemp("exported") / "dynamic.pt2",
        network(),
        torch.rand(2, 3, 16, 20),
        dynamic_shapes=({0: Dim("batch", min=2, max=8)},),
        extra_files={"reportgen.json": '{"head": "softmax"}'},
    )


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "fixed.pt2"
    return write(path, network(), torch.rand(4, 3, 16, 20))


def test_a_dynamic_program_is_read(dynamic: Path) -> None:
    exported = read_exported(dynamic, trust_pickle=False)
    assert exported.fixed_batch is None
    assert exported.hints == HINTS
    assert exported.metadata == '{"head": "softmax"}'
    assert exported.name == "SmallNet"
    assert not exported.trusted


@pytest.mark.parametrize("count", [1, 2, 8, 13])
def test_a_dynamic_program_equals_the_network_for_every_batch(dynamic: Path, count: int) -> None:
    # 1 and 13 lie outside the range that the file declares.
    batch = torch.rand(count, 3, 16, 20)
    found = read_exported(dynamic, trust_pickle=False).network
    assert torch.equal(found(batch), network()(batch))


def test_a_fixed_program_is_read(fixed: Path) -> None:
    exported = read_exported(fixed, trust_pickle=False)
    batch = torch.rand(4, 3, 16, 20)
    assert exported.fixed_batch == 4
    assert exported.hints == HINTS
    assert exported.metadata == ""
    assert torch.equal(exported.network(batch), network()(batch))


def test_the_network_can_change_its_mode_and_shows_its_graph(fixed: Path) -> None:
    found = read_exported(fixed, trust_pickle=False).network
    assert found.eval() is found
    assert not found.train(False).training
    assert isinstance(found, fx.GraphModule)
    assert {name for name, _ in found.named_parameters()} == {
        name for name, _ in network().named_parameters()
    }


class Bits(nn.Module):
    """Joins masks by operators that PyTorch names as Python names its methods."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright, dark = pixels > 0.6, pixels < 0.4
        whole = (pixels * 255).to(torch.int64)
        kept = (bright & ~dark) | (bright ^ dark) | ((whole << 1 >> 3) > 12)
        return (pixels * kept).mean((2, 3))


def test_operators_on_masks_are_plain(tmp_path: Path) -> None:
    batch = torch.rand(2, 3, 8, 8)
    path = write(tmp_path / "bits.pt2", Bits(), batch)
    assert b"aten.__and__.Tensor" in path.read_bytes()
    assert torch.equal(read_exported(path, trust_pickle=False).network(batch), Bits()(batch))


def test_dynamic_sides_are_no_hint(tmp_path: Path) -> None:
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    path = write(tmp_path / "m.pt2", network(), torch.rand(2, 3, 16, 20), dynamic_shapes=(sides,))
    exported = read_exported(path, trust_pickle=False)
    batch = torch.rand(3, 3, 9, 31)
    assert exported.hints == Hints(channels=Known(3, "file"))
    assert torch.equal(exported.network(batch), network()(batch))


def test_a_program_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt2", SmallNet().train(), torch.rand(2, 3, 8, 8))
    with pytest.raises(ModelError, match=r"exported in training mode .*batch_norm.*model\.eval"):
        read_exported(path, trust_pickle=False)


def test_weights_standardised_by_a_batch_norm_are_no_training_mode(tmp_path: Path) -> None:
    network, batch = StandardisedWeights().eval(), torch.rand(2, 3, 8, 8)
    found = read_exported(write(tmp_path / "m.pt2", network, batch), trust_pickle=False).network
    assert torch.equal(found(batch), network(batch))


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).flatten(1)


@pytest.mark.parametrize(
    ("module", "example", "found"),
    [
        (Sum(), (torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)), r"\[2, 3, 4, 4\], torch.float32"),
        (nn.Flatten(), (torch.rand(2, 3, 4),), r"torch.float32 \[2, 3, 4\]"),
        (nn.Flatten(), (torch.ones(2, 3, 4, 4, dtype=torch.int64),), r"torch.int64 \[2, 3, 4, 4\]"),
    ],
)
def test_another_input_is_refused(
    module: nn.Module, example: tuple[Tensor, ...], found: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.pt2", module, *example)
    with pytest.raises(ModelError, match=f"takes .*{found}.*, where one float32 batch"):
        read_exported(path, trust_pickle=False)


@pytest.mark.parametrize("member", [GRAPH, WEIGHTS, "data/weights/weight_0"])
def test_a_damaged_program_is_told(fixed: Path, tmp_path: Path, member: str) -> None:
    path = rewrite(fixed, tmp_path / "m.pt2", lambda members: members.update({member: b"{"}))
    with pytest.raises(ModelError, match="cannot be read, it may be damaged"):
        read_exported(path, trust_pickle=False)


def rewrite(path: Path, to: Path, change: Callable[[Members], object]) -> Path:
    """Write the archive again, with its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"m/{name}", content)
    return to


def edit(members: Members, member: str, change: Callable[[Any], object]) -> None:
    content = json.loads(members[member])
    change(content)
    members[member] = json.dumps(content).encode()


def test_rewriting_alone_changes_nothing(dynamic: Path, tmp_path: Path) -> None:
    path = rewrite(dynamic, tmp_path / "m.pt2", lambda members: None)
    batch = torch.rand(2, 3, 16, 20)
    assert torch.equal(read_exported(path, False).network(batch), network()(batch))


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def pickled_weight(members: Members, proof: Path) -> None:
    edit(members, WEIGHTS, lambda c: c["config"]["fc.bias"].update(use_pickle=True))
    name = json.loads(members[WEIGHTS])["config"]["fc.bias"]["path_name"]
    members[f"data/weights/{name}"] = saved(Evil(proof))


def pickled_example(members: Members, proof: Path) -> None:
    members[EXAMPLE] = saved(((torch.rand(2, 3, 16, 20), Evil(proof)), {}))


def old_weights(members: Members, proof: Path) -> None:
    members["data/weights/model.pt"] = saved({"fc.bias": Evil(proof)})


def opaque_constant(members: Members, proof: Path) -> None:
    entry = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }
    edit(members, CONSTANTS, lambda c: c["config"].update(evil=entry))
    members["data/constants/opaque_obj_0"] = pickle.dumps(Evil(proof))


def evaluated_expression(members: Members, proof: Path) -> None:
    evil = f"__import__('pathlib').Path({str(proof)!r}).touch() or 2"

    def change(content: Any) -> None:
        values = content["graph_module"]["graph"]["tensor_values"]
        for value in values.values():
            for size in value["sizes"]:
                size.get("as_expr", {})["expr_str"] = evil

    edit(members, GRAPH, change)


CODE = {
    "the pickled tensor 'fc.bias'": pickled_weight,
    "pickled example inputs": pickled_example,
    "the member 'data/weights/model.pt'": old_weights,
    "the member 'data/constants/opaque_obj_0'": opaque_constant,
    r"the expression '__import__\('pathlib'\)": evaluated_expression,
}


@pytest.mark.parametrize("what", CODE)
def test_planted_code_does_not_run(what: str, dynamic: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = rewrite(dynamic, tmp_path / "m.pt2", lambda members: CODE[what](members, proof))
    with pytest.raises(ModelError, match=f"holds {what}.*could run any code; .*--trust-pickle"):
        read_exported(path, trust_pickle=False)
    assert not proof.exists()


@pytest.mark.parametrize("what", CODE)
def test_planted_code_runs_where_it_is_trusted(what: str, dynamic: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = rewrite(dynamic, tmp_path / "m.pt2", lambda members: CODE[what](members, proof))
    # Most plants damage the program; whether the code ran is the question.
    try:
        assert read_exported(path, trust_pickle=True).trusted
    except ModelError as error:
        assert "cannot be read" in str(error)
    assert proof.exists()


def first_node(content: Any) -> Any:
    return content["graph_module"]["graph"]["nodes"][0]


def rename_input(content: Any) -> None:
    name = "x=print('evil')"
    text = json.dumps(content).replace('"name": "x"', json.dumps({"name": name})[1:-1])
    text = text.replace('"x": {"dtype"', f'{json.dumps(name)}: {{"dtype"')
    content.clear()
    content.update(json.loads(text))


STRANGE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "a function of the system": (
        "the function 'torch.os.system'",
        lambda c: first_node(c).update(target="torch.os.system"),
    ),
    "a library to load": (
        "the function 'torch.ops.load_library'",
        lambda c: first_node(c).update(target="torch.ops.load_library"),
    ),
    "a file to map": (
        "the function 'torch.ops.aten.from_file.default'",
        lambda c: first_node(c).update(target="torch.ops.aten.from_file.default"),
    ),
    "an operator of a user": (
        "the function 'torch.ops.their.op.default'",
        lambda c: first_node(c).update(target="torch.ops.their.op.default"),
    ),
    "code in a name": (r"the name 'x=print\('evil'\)'", rename_input),
    "code in the name of an argument": (
        r"the name 'a\(\)'",
        lambda c: first_node(c)["inputs"][0].update(name="a()"),
    ),
    "code in the name of a weight": (
        "the name 'fc\"'",
        lambda c: c["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
            parameter_name='fc"'
        ),
    ),
    "a note that is none": (
        "the expression 'evil'",
        lambda c: c["graph_module"]["graph"]["tensor_values"].update(
            metadata={"sizes": [{"as_expr": {"expr_str": "evil"}}]}
        ),
    ),
    "a container of another module": (
        "the structure",
        lambda c: c["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "their.Tuple", "context": "null", "children_spec": []}]'
        ),
    ),
    "a module to import": (
        "the structure",
        lambda c: c["graph_module"]["module_call_graph"][0]["signature"].update(
            out_spec='[1, {"type": "builtins.dict", "context": "{\\"__enum__\\": true}", '
            '"children_spec": []}]'
        ),
    ),
}


@pytest.mark.parametrize("plant", STRANGE)
def test_what_is_not_known_to_be_data_is_refused(plant: str, dynamic: Path, tmp_path: Path) -> None:
    what, change = STRANGE[plant]
    path = rewrite(dynamic, tmp_path / "m.pt2", lambda m: edit(m, GRAPH, change))
    with pytest.raises(ModelError, match=f"holds {what}"):
        read_exported(path, trust_pickle=False)


class Fake:
    """An archive in memory; its graph is one expression."""

    def __init__(self, names: list[str], expression: str = "Symbol('s0')") -> None:
        self.names, self.expression = names, expression

    def get_file_names(self) -> list[str]:
        return self.names

    def read_bytes(self, name: str) -> bytes:
        return json.dumps({"as_expr": {"expr_str": self.expression}}).encode()


def test_two_members_of_one_name_are_refused() -> None:
    assert unsafe_part(Fake([GRAPH])) == ""
    assert unsafe_part(Fake([GRAPH, GRAPH])) == "two members of the same name"


@pytest.mark.parametrize("name", ["data/aotinductor/model/a.so", "models/other.json", "setup.py"])
def test_an_unknown_member_is_refused(name: str) -> None:
    assert unsafe_part(Fake([GRAPH, name])) == f"the member '{name}'"


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Integer(-1), Mul(Integer(2), Symbol('s0')))",
        "FloorDiv(Symbol('s1'), Integer(2))",
        "Float('1.5', precision=53)",
        "And(GreaterThan(Symbol('u0', integer=True), Integer(1)), Unequality(Symbol('u1'), 2))",
    ],
)
def test_plain_expressions_pass(expression: str) -> None:
    assert unsafe_part(Fake([GRAPH], expression)) == ""


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s0').__class__",
        "Symbol('s0')('s1')",
        "Symbol('__import__(\"os\")')",
        "lambda: 1",
        "[Symbol('s0')]",
        "open",
        "f'{Symbol}'",
        "Symbol('s0'",
        "x!",
        "(" * 500 + ")" * 500,
    ],
)
def test_other_expressions_are_refused(expression: str) -> None:
    assert unsafe_part(Fake([GRAPH], expression)).startswith("the expression")


def test_the_network_is_the_files_own(fixed: Path) -> None:
    first, second = (read_exported(fixed, False).network for _ in range(2))
    changed = copy.deepcopy(first.state_dict())
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert all(torch.equal(second.state_dict()[key], changed[key]) for key in changed)
