"""Architectures that the user names are built, and every way to fail is one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from factories import SmallNet

from reportgen.classifier.factories import build_from_factory, importable_working_directory
from reportgen.classifier.fitting import shapes_of
from reportgen.errors import ModelError, UsageError

SEVEN = shapes_of(SmallNet(7).state_dict())
FIVE = shapes_of(SmallNet(5).state_dict())


@pytest.mark.parametrize("name", ["small_net", "small_net_of", "SmallNet"])
@pytest.mark.parametrize(("shapes", "classes"), [(SEVEN, 7), (FIVE, 5)])
def test_a_factory_builds_as_many_classes_as_the_file_has(
    name: str, shapes: dict[str, tuple[int, ...]], classes: int
) -> None:
    network = build_from_factory(f"factories:{name}", shapes)
    assert isinstance(network, SmallNet)
    assert network.fc.out_features == classes


def test_a_difference_that_is_not_the_number_of_classes_changes_nothing() -> None:
    grey = shapes_of(SmallNet(7, channels=1).state_dict())
    network = build_from_factory("factories:small_net", grey)
    assert network.fc.out_features == 5


def test_a_factory_without_a_choice_of_classes_is_called_plainly() -> None:
    network = build_from_factory("factories:mnist_cnn", SEVEN)
    assert network.fc2.out_features == 10


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("no_such_module:net", "Importing 'no_such_module' failed.*ModuleNotFoundError: No module"),
        ("factories:no_such_net", "The module 'factories' has no 'no_such_net'"),
        ("factories:NOT_CALLABLE", "is of type int and cannot be called"),
        (
            "factories:breaks",
            r"Building 'factories:breaks' failed.*\(ValueError: no such width\)\.",
        ),
        ("factories:wants_more", "Building 'factories:wants_more' failed.*TypeError: .*width"),
        ("factories:returns_text", "returned an object of type str, and not a network"),
    ],
)
def test_a_factory_that_fails_is_told(arch: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_from_factory(arch, SEVEN)


@pytest.mark.parametrize("arch", ["resnet18", "factories:", ":net"])
def test_another_form_is_refused(arch: str) -> None:
    with pytest.raises(UsageError, match=f"The architecture '{arch}' cannot be used"):
        build_from_factory(arch, SEVEN)


@pytest.mark.parametrize("source", ["import sys\nsys.exit(1)", "def net(:", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_told(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_broken_net.py").write_text(source)
    with pytest.raises(ModelError, match="Importing 'their_broken_net' failed"):
        build_from_factory("their_broken_net:net", SEVEN)


def test_a_module_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_nets").mkdir()
    (tmp_path / "their_nets" / "small.py").write_text("from factories import SmallNet as net\n")
    with pytest.raises(ModelError, match="No module named 'their_nets'"):
        build_from_factory("their_nets.small:net", SEVEN)
    monkeypatch.chdir(tmp_path)
    assert isinstance(build_from_factory("their_nets.small:net", SEVEN), SmallNet)


def test_the_search_path_is_restored() -> None:
    before = list(sys.path)
    with pytest.raises(ZeroDivisionError), importable_working_directory():
        assert sys.path[0] == str(Path.cwd())
        raise ZeroDivisionError
    assert sys.path == before


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ModelError, match=r"needs timm, which is not installed; .*reportgen\[timm\]"
    ):
        build_from_factory("timm:resnet18", SEVEN)


def test_timm_builds_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def create_model(name: str, pretrained: bool, num_classes: int = 1000) -> SmallNet:
        calls.append((name, pretrained, num_classes))
        return SmallNet(num_classes)

    timm = ModuleType("timm")
    timm.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    network = build_from_factory("timm:tiny", SEVEN)
    assert network.fc.out_features == 7
    assert calls == [("tiny", False, 1000), ("tiny", False, 7)]
