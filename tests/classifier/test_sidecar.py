"""What people say about a model is read from options, model.toml, and the model's archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import SmallNet

from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.sidecar import embedded_hints, flag_hints, sidecar_hints
from reportgen.config import Config
from reportgen.errors import ModelError, UsageError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

TOML = """
labels = ["cat", "dog"]
head = "softmax"
[preprocessing]
channels = 3
resize = 256
crop = [224, 200]
interpolation = "bicubic"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
channel_order = "bgr"
numbers = "uint8"
"""


def all_hints(source: str) -> Hints:
    return Hints(
        labels=Known(("cat", "dog"), source),
        head=Known("softmax", source),
        channels=Known(3, source),
        resize=Known(256, source),
        crop=Known((224, 200), source),
        interpolation=Known("bicubic", source),
        mean=Known(MEAN, source),
        std=Known(STD, source),
        channel_order=Known("bgr", source),
        numbers=Known("uint8", source),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "net.pt").touch()
    return tmp_path / "net.pt"


def describe(model: Path, text: str) -> Path:
    file = model.with_name("model.toml")
    file.write_text(text, encoding="utf-8")
    return file


def test_no_option_says_nothing() -> None:
    assert flag_hints(Config()) == Hints()


def test_every_option_is_heard(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    config = Config(
        labels=str(tmp_path / "labels.txt"),
        size="224x200",
        resize=256,
        interpolation="bicubic",
        mean="0.485, 0.456,0.406",
        std="0.229,0.224,0.225",
        head="softmax",
        channel_order="bgr",
    )
    heard = all_hints("option")
    assert flag_hints(config) == Hints(**{**vars(heard), "channels": None, "numbers": None})


@pytest.mark.parametrize(
    ("size", "resize", "crop", "resized"),
    [
        ("224", None, (224, 224), 224),
        ("224x320", None, (224, 320), (224, 320)),
        ("224x224", None, (224, 224), 224),
        ("224", 256, (224, 224), 256),
        ("224x320", 224, (224, 320), 224),
        (" 32 ", None, (32, 32), 32),
    ],
)
def test_the_size_sets_crop_and_resize(
    size: str, resize: int | None, crop: tuple[int, int], resized: int | tuple[int, int]
) -> None:
    hints = flag_hints(Config(size=size, resize=resize))
    assert hints.crop == Known(crop, "option")
    assert hints.resize == Known(resized, "option")


def test_resize_alone_leaves_the_crop_open() -> None:
    assert flag_hints(Config(resize=256)) == Hints(resize=Known(256, "option"))


@pytest.mark.parametrize("size", ["0", "-3", "224x", "x224", "2.5", "224x224x3", "big", "1e3", "²"])
def test_an_impossible_size_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match=r"Option 'size' cannot be .*expected 224, or 224x320"):
        flag_hints(Config(size=size))


def test_a_resize_below_the_size_is_refused() -> None:
    with pytest.raises(UsageError, match="'resize' is 200, less than the size 224x224"):
        flag_hints(Config(size="224", resize=200))


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("text", ["123.675,116.28,103.53", "-0.1", "a,b", "0.5,,0.5", "nan", ","])
def test_impossible_statistics_are_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"Option '{name}' cannot be '{text}'"):
        flag_hints(Config(**{name: text}))


def test_a_mean_may_be_zero_and_a_deviation_may_not() -> None:
    assert flag_hints(Config(mean="0,1")).mean == Known((0.0, 1.0), "option")
    with pytest.raises(UsageError, match=r"Option 'std' .*above 0 and up to 1"):
        flag_hints(Config(std="0,1"))


def test_mean_and_deviation_are_of_the_same_channels() -> None:
    with pytest.raises(UsageError, match="'mean' and 'std' have 1 and 3 values"):
        flag_hints(Config(mean="0.5", std="0.2,0.2,0.2"))


def test_a_full_description_beside_the_model_is_read(model: Path) -> None:
    describe(model, TOML)
    assert sidecar_hints(model) == all_hints("model.toml")
    assert sidecar_hints(str(model)) == all_hints("model.toml")


def test_the_description_of_its_own_name_comes_first(model: Path) -> None:
    describe(model, TOML)
    model.with_suffix(".toml").write_text('head = "sigmoid"')
    assert sidecar_hints(model) == Hints(head=Known("sigmoid", "model.toml"))


def test_a_description_in_a_folder_of_a_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('head = "sigmoid"', encoding="utf-8")
    assert sidecar_hints(tmp_path) == Hints()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "config.toml").write_text("[other]", encoding="utf-8")
    expected = Hints(head=Known("sigmoid", "model.toml"))
    for source in (tmp_path, str(tmp_path), f"hf:{tmp_path}"):
        assert sidecar_hints(source) == expected


def test_no_description_says_nothing(model: Path) -> None:
    assert sidecar_hints(model) == Hints()
    assert sidecar_hints(SmallNet()) == Hints()
    assert sidecar_hints("torchvision:resnet18") == Hints()


def test_labels_may_lie_beside_the_description(model: Path) -> None:
    describe(model, 'labels = "names.txt"')
    (model.parent / "names.txt").write_text("cat\ndog\n")
    assert sidecar_hints(model) == Hints(labels=Known(("cat", "dog"), "model.toml"))


def test_labels_elsewhere_are_refused(model: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.txt").write_text("cat\n")
    moved = model.rename(inner / "net.pt")
    for name in ("../secret.txt", str(tmp_path / "secret.txt")):
        describe(moved, f'labels = "{name}"')
        with pytest.raises(UsageError, match="names labels outside its own folder"):
            sidecar_hints(moved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels = [", "Invalid value"),
        ('arch = "module:factory"', "'arch' is 'module:factory'; Extra inputs are not permitted"),
        ('head = "tanh"', "'head' is 'tanh'"),
        ("labels = []", "'labels.*should have at least 1 item"),
        ("[preprocessing]\ncrop = 224", r"'preprocessing\.crop' is '224'"),
        ("[preprocessing]\ncrop = [0, 224]", r"'preprocessing\.crop\.0' is '0'"),
        ("[preprocessing]\nmean = [123.7]", r"'preprocessing\.mean\.0' is '123\.7'"),
        ("[preprocessing]\nstd = [0.0]", r"'preprocessing\.std\.0' is '0\.0'"),
        ("[preprocessing]\nresize = true", "resize.* is 'True'"),
    ],
)
def test_a_description_that_cannot_be_used_is_told(model: Path, text: str, message: str) -> None:
    describe(model, text)
    with pytest.raises(UsageError, match=f"model.toml' cannot be (used|read): .*{message}"):
        sidecar_hints(model)


def test_a_description_that_is_no_text_is_told(model: Path) -> None:
    model.with_name("model.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"model\.toml' cannot be read"):
        sidecar_hints(model)


def test_a_full_description_in_the_archive_is_read() -> None:
    content = {
        "labels": ["cat", "dog"],
        "head": "softmax",
        "preprocessing": {
            "channels": 3,
            "resize": 256,
            "crop": [224, 200],
            "interpolation": "bicubic",
            "mean": MEAN,
            "std": STD,
            "channel_order": "bgr",
            "numbers": "uint8",
        },
    }
    assert embedded_hints(json.dumps(content), "m.pt2") == all_hints("file")


def test_both_sides_of_the_resize_may_be_given() -> None:
    hints = embedded_hints('{"preprocessing": {"resize": [240, 320]}}', "m.pt2")
    assert hints == Hints(resize=Known((240, 320), "file"))


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_an_empty_description_says_nothing(text: str) -> None:
    assert embedded_hints(text, "m.pt2") == Hints()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be used: 'the whole'"),
        ('{"head": "tanh"}', "cannot be used: 'head' is 'tanh'"),
        ('{"labels": "names.txt"}', "must list its labels"),
    ],
)
def test_a_description_in_the_archive_that_cannot_be_used_is_told(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"reportgen.json in 'm.pt2' {message}"):
        embedded_hints(text, "m.pt2")
