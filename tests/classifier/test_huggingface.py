"""Folders of transformers are opened as a user would, whole or not at all."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from reportgen import cli
from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.classifier.preprocessing import prepare
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.classifier.transformers_names import look_alike
from reportgen.config import Config
from reportgen.errors import ModelError

ensure_torchvision()

transformers = pytest.importorskip("transformers")

LABELS = {0: "cat", 1: "dog", 2: "owl"}
PATCHES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
WINDOWS: dict[str, Any] = {
    "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
    "window_size": 4,
}  # fmt: skip
LEVIT: dict[str, Any] = {
    "image_size": 64, "hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 1, 1],
    "depths": [1, 1, 1], "key_dim": [8, 8, 8],
}  # fmt: skip
FOCAL: dict[str, Any] = {
    "image_size": 64, "embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 16],
    "focal_levels": [1, 1], "focal_windows": [3, 3],
}  # fmt: skip

# The prefix of the configuration, the rest of the network's name, the processor, the options.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViT": ("ViT", "", PATCHES),
    "DeiT": ("DeiT", "", PATCHES),
    "DeiT-teacher": ("DeiT", "WithTeacher", PATCHES),
    "Beit": ("Beit", "", {**PATCHES, "out_indices": [0, 1]}),
    "Data2VecVision": ("Beit", "", {**PATCHES, "out_indices": [0, 1, 1, 1]}),
    "Dinov2": ("Bit", "", PATCHES),
    "ConvNext": ("ConvNext", "", STAGES),
    "Swin": ("ViT", "", WINDOWS),
    "Swinv2": ("ViT", "", WINDOWS),
    "ResNet": ("ConvNext", "", {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}),
    "RegNet": ("ConvNext", "", {"embedding_size": 8, **STAGES, "groups_width": 4}),
    "PoolFormer": ("PoolFormer", "", STAGES),
    "Levit": ("Levit", "", LEVIT),
    "FocalNet": ("Bit", "", FOCAL),
    "MobileNetV2": ("MobileNetV2", "", {"depth_multiplier": 0.25}),
    "Segformer": ("Segformer", "", {**STAGES, "num_attention_heads": [1, 1, 1, 1]}),
}


def quietly(save: Callable[[], object]) -> None:
    transformers.utils.logging.disable_progress_bar()
    save()
    transformers.utils.logging.enable_progress_bar()


def saved(path: Path, kind: str = "ViT", side: int = 32, **options: Any) -> nn.Module:
    """Save a small network and its image processor to a folder, and return the network."""
    prefix, head = kind.split("-")[0], NETWORKS[kind][1]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(
        **{**NETWORKS[kind][2], "id2label": LABELS, **options}
    )
    network: nn.Module = getattr(transformers, f"{prefix}ForImageClassification{head}")(config)
    quietly(lambda: network.save_pretrained(path))  # type: ignore[operator]
    processor(NETWORKS[kind][0], side).save_pretrained(path)
    return network.eval()


def processor(kind: str, side: int) -> Any:
    made = getattr(transformers, f"{kind}ImageProcessor")
    square = {"height": side, "width": side}
    size = {"shortest_edge": side} if "shortest_edge" in made.size else square
    return made(size=size, crop_size=square)


def edit(path: Path, **entries: object) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in {**config, **entries}.items() if v is not None}
    (path / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def known(hint: Known[Any] | None) -> tuple[Any, str]:
    assert hint is not None
    return hint.value, hint.source


def picture() -> Image.Image:
    cells = np.random.default_rng(1).integers(0, 256, (10, 16, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_network_says_what_transformers_says(tmp_path: Path, kind: str) -> None:
    side = NETWORKS[kind][2].get("image_size", 72)
    network = saved(tmp_path, kind, side)
    opened = open_model(f"hf:{tmp_path}")
    assert opened.architecture == type(network).__name__
    pil = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    pixels = torch.as_tensor(np.asarray(pil(picture(), return_tensors="pt")["pixel_values"]))
    with torch.no_grad():
        expected = network(pixels).logits.softmax(dim=1)
    with classifier_from(opened, Hints(), Config(folding=False)) as classifier:
        shown = prepare(picture(), classifier.record.preprocessing).pixels
        found = classifier.probabilities(shown[None])
    assert torch.allclose(found, expected, atol=1e-5)
    assert classifier.labels == ("cat", "dog", "owl")
    assert classifier.record.labels.source == "file"
    assert set(classifier.record.preprocessing_sources.values()) == {"file"}


def saved_of_patches(path: Path) -> nn.Module:
    torch.manual_seed(0)
    vision = {**PATCHES, "num_patches": 16}
    config = transformers.Siglip2Config(vision_config=vision, id2label=LABELS)
    network: nn.Module = transformers.Siglip2ForImageClassification(config)
    quietly(lambda: network.save_pretrained(path))  # type: ignore[operator]
    return network.eval()


def test_a_network_of_patches_is_shown_pictures(tmp_path: Path) -> None:
    network = saved_of_patches(tmp_path)
    made = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    made.save_pretrained(tmp_path)
    square = picture().crop((0, 0, 48, 48))
    pil = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    with torch.no_grad():
        expected = network(**pil(square, return_tensors="pt")).logits.softmax(dim=1)
    opened = open_model(tmp_path)
    assert opened.architecture == "Siglip2ForImageClassification"
    assert known(opened.hints.crop) == ((32, 32), "file")
    assert "keeps the shape of a picture" in opened.notes[0]
    with classifier_from(opened, Hints(), Config(folding=False)) as classifier:
        shown = prepare(square, classifier.record.preprocessing).pixels
        found = classifier.probabilities(shown[None])
    assert torch.allclose(found, expected, atol=1e-5)


def test_without_a_processor_a_network_of_patches_has_the_size_of_its_positions(
    tmp_path: Path,
) -> None:
    saved_of_patches(tmp_path)
    opened = open_model(tmp_path)
    assert known(opened.hints.crop) == ((32, 32), "file")
    assert known(opened.hints.mean) == ((0.5, 0.5, 0.5), "assumed")
    with pytest.raises(ValueError, match="30x32 pixels are not made of patches of 8x8"):
        opened.network(torch.zeros(1, 3, 32, 30))


def test_the_record_says_where_the_network_is_from(tmp_path: Path) -> None:
    path = tmp_path / "my-vit"
    saved(path)
    opened = open_model(path)
    assert (opened.name, opened.format) == ("my-vit", "Hugging Face folder")
    assert not opened.trusted_pickle
    assert opened.notes == ()
    assert opened.file_sha256 is not None
    assert opened.file_sha256 == open_model(path / "model.safetensors").file_sha256
    assert not opened.network.training
    assert {p.dtype for p in opened.network.parameters()} == {torch.float32}


def test_a_commit_on_the_hub_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc123"
    saved(snapshot)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("abc123", encoding="utf-8")
    opened = open_model("hf:owner/name")
    assert (opened.name, opened.format) == ("owner/name", "Hugging Face hub")
    assert opened.notes == ("Commit abc123 on the hub.",)


@pytest.mark.parametrize("name", ["", "model.safetensors", "model.safetensors.index.json"])
def test_divided_weights_and_weights_in_place_of_their_folder(tmp_path: Path, name: str) -> None:
    network = saved(tmp_path)
    if name != "model.safetensors":
        (tmp_path / "model.safetensors").unlink()
        quietly(lambda: network.save_pretrained(tmp_path, max_shard_size="10KB"))  # type: ignore[operator]
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
    opened = open_model(tmp_path / name)
    assert same(opened, network)
    assert any("whose config.json was used" in note for note in opened.notes) == bool(name)


def without_folder(network: nn.Module, path: Path, prefix: str = "") -> Path:
    torch.save({f"{prefix}{k}": v for k, v in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "prefix", "name"),
    [
        ("ViT", "", "ViTForImageClassification"),
        ("Swin", "module.", "SwinForImageClassification"),
        ("ResNet", "", "ResNetForImageClassification"),
        ("Levit", "", "LevitForImageClassification"),
        ("Segformer", "", "SegformerForImageClassification"),
    ],
)
def test_weights_without_their_folder_are_told_by_their_names(
    tmp_path: Path, kind: str, prefix: str, name: str
) -> None:
    path = without_folder(saved(tmp_path, kind), tmp_path / "m.pt", prefix)
    said = f"looks like transformers' {name}, whose configuration is not in the file; give the fold"
    with pytest.raises(ModelError, match=said):
        open_model(path)


def test_without_transformers_the_names_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = without_folder(saved(tmp_path), tmp_path / "m.pt")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"no known architecture.*name its architecture with --a"):
        open_model(path)


@pytest.mark.parametrize(
    "names",
    [
        ("vit.embeddings.weight", "head.weight"),  # no classifier
        ("features.embeddings.weight", "classifier.weight"),
        ("resnet.conv1.weight", "resnet.layer1.weight", "classifier.weight"),  # torchvision's
        ("classifier.layers.weight", "vit.weight"),
    ],
)
def test_other_names_are_not_transformers(names: tuple[str, ...]) -> None:
    assert look_alike(names) == ""
    assert look_alike(("vit.embeddings.weight", "classifier.weight")) == "ViTForImageClassification"


def same(opened: Opened, network: nn.Module, side: int = 32) -> bool:
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.allclose(opened.network(batch).logits, network(batch).logits, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_coarser_weights_become_float32(tmp_path: Path, dtype: str) -> None:
    network = saved(tmp_path)
    quietly(lambda: network.to(getattr(torch, dtype)).save_pretrained(tmp_path))  # type: ignore[operator]
    opened = open_model(tmp_path)
    assert opened.notes == (f"Weights in {dtype} were converted to float32.",)
    assert {p.dtype for p in opened.network.parameters()} == {torch.float32}
    assert same(opened, network.float())


def test_a_pickle_needs_trust(tmp_path: Path) -> None:
    network = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"as a pickle \(pytorch_model.bin\) alone"):
        open_model(tmp_path)
    opened = open_model(tmp_path, trust_pickle=True)
    assert opened.trusted_pickle
    assert same(opened, network)


class Evil:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def test_even_a_trusted_pickle_is_read_as_weights_only(tmp_path: Path) -> None:
    network = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weights = {**network.state_dict(), "x": Evil(tmp_path / "proof")}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"The network in .* cannot be opened"):
        open_model(tmp_path, trust_pickle=True)
    assert not (tmp_path / "proof").exists()


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    saved(tmp_path)
    proof = tmp_path / "proof"
    (tmp_path / "own.py").write_text(f"open({str(proof)!r}, 'w').close()", encoding="utf-8")
    edit(tmp_path, auto_map={"AutoModelForImageClassification": "own.Net"}, model_type="own")
    with pytest.raises(ModelError, match="brings its own code along"):
        open_model(tmp_path)
    assert not proof.exists()


def test_an_attention_that_would_be_fetched_is_not(tmp_path: Path) -> None:
    network = saved(tmp_path)
    edit(tmp_path, attn_implementation="owner/kernel", _attn_implementation="owner/kernel")
    opened = open_model(tmp_path)
    assert opened.network.config._attn_implementation == "eager"
    assert same(opened, network)


def drop(path: Path, *names: str) -> None:
    tensors = load_file(path / "model.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if not name.startswith(names)}
    assert len(left) < len(tensors)
    save_file(left, path / "model.safetensors", metadata={"format": "pt"})


def test_no_weight_is_random(tmp_path: Path) -> None:
    saved(tmp_path)
    drop(tmp_path, "classifier")
    with pytest.raises(ModelError, match=r"lack 2 tensors of ViTForImageClassification \(clas"):
        open_model(tmp_path)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    edit(tmp_path, id2label={"0": "cat", "1": "dog"}, label2id={"cat": 0, "dog": 1})
    with pytest.raises(ModelError, match="cannot be opened; check that its files belong together"):
        open_model(tmp_path)


def test_weights_without_a_place_are_told(tmp_path: Path) -> None:
    network = saved(tmp_path)
    tensors = {**load_file(tmp_path / "model.safetensors"), "other.weight": torch.ones(2)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    opened = open_model(tmp_path)
    assert opened.notes == (
        "Tensors without a place in the network (1) were left out: other.weight.",
    )
    assert same(opened, network)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"model\.safetensors' cannot be read, it may be damaged"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"architectures": ["ViTModel"]},
            r"a ViTModel \(a network without a classification head\)",
        ),
        (
            {"architectures": ["ViTForMaskedImageModeling"]},
            r"ViTForMaskedImageModeling \(a network from pre-training, without a classification",
        ),
        (
            {"architectures": ["DetrForObjectDetection"], "model_type": "detr"},
            r"a DetrForObjectDetection \(an object detector\), not an image classifier",
        ),
        (
            {"architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer"},
            r"\(a segmentation network\)",
        ),
        (
            {"architectures": ["CLIPModel"], "model_type": "clip"},
            r"a CLIPModel \(a network that compares pictures with texts\)",
        ),
        (
            {"architectures": ["BertForSequenceClassification"], "model_type": "bert"},
            r"\(a classifier of texts\)",
        ),
        ({"architectures": None, "model_type": "bert"}, "a model of the type 'bert', not an image"),
        (
            {"architectures": ["ImageGPTForImageClassification"], "model_type": "imagegpt"},
            "takes colour clusters, not the pixels of a picture",
        ),
        ({"model_type": ["vit"], "architectures": 3}, "which the installed transformers does not"),
        ({"model_type": "unheard-of"}, "'unheard-of', which the installed transformers does not"),
        ({"model_type": None}, "has no 'model_type', so it is not known what network"),
        ({"hidden_size": "many"}, r"The configuration in .* cannot be opened"),
        ({"problem_type": "regression"}, "a network for regression, which names no classes"),
    ],
)
def test_what_is_no_image_classifier_is_told(
    tmp_path: Path, entries: dict[str, object], message: str
) -> None:
    saved(tmp_path)
    edit(tmp_path, **entries)
    with pytest.raises(ModelError, match=message):
        open_model(tmp_path)


def test_without_transformers_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"needs transformers.*pip install 'reportgen\[hf\]'"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("problem", "head"),
    [
        ("multi_label_classification", ("multilabel", "file")),
        ("single_label_classification", ("softmax", "file")),
        (None, None),
    ],
)
def test_the_head_is_the_stated_one(
    tmp_path: Path, problem: str | None, head: tuple[str, str] | None
) -> None:
    saved(tmp_path, problem_type=problem)
    found = open_model(tmp_path).hints.head
    assert (found and known(found)) == head


def test_placeholders_are_no_labels(tmp_path: Path) -> None:
    saved(tmp_path, id2label={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    assert open_model(tmp_path).hints.labels is None


def test_without_a_processor_the_usual_one_is_assumed(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    hints = open_model(tmp_path).hints
    assert known(hints.crop) == ((32, 32), "file")
    assert known(hints.mean) == ((0.5, 0.5, 0.5), "assumed")
    assert hints.resize is None


def test_a_size_of_no_use_is_not_assumed(tmp_path: Path) -> None:
    saved(tmp_path, "ResNet")
    (tmp_path / "preprocessor_config.json").unlink()
    hints = open_model(tmp_path).hints
    assert (hints.crop, hints.resize) == (None, None)
    assert known(hints.interpolation) == ("bicubic", "assumed")


def test_other_channels_have_no_processor(tmp_path: Path) -> None:
    saved(tmp_path, num_channels=5)
    assert open_model(tmp_path).hints.mean is None


def test_a_damaged_processor_is_told(tmp_path: Path) -> None:
    saved(tmp_path)
    text = json.dumps({"image_processor_type": "NoSuchImageProcessor"})
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="utf-8")
    edit(tmp_path, model_type="ijepa", architectures=["IJepaForImageClassification"])
    with pytest.raises(ModelError):
        open_model(tmp_path)


def test_the_libraries_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path)
    logger = logging.getLogger("transformers")
    before = (logger.level, transformers.utils.logging.is_progress_bar_enabled())
    capfd.readouterr()
    open_model(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (logger.level, transformers.utils.logging.is_progress_bar_enabled()) == before


@pytest.mark.slow
def test_a_folder_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "my-vit")
    picture().save(tmp_path / "picture.png")
    arguments = [
        "reportgen", "explain", f"hf:{tmp_path / 'my-vit'}", str(tmp_path / "picture.png"),
        "--out", str(tmp_path / "out"), "--profile", "quick", "--methods",
        "saliency,integrated-gradients", "--metrics", "deletion", "--format", "html,json",
        "--quiet",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    capfd.readouterr()
    _run()
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["architecture"] == "ViTForImageClassification"
    assert report["model"]["format"] == "Hugging Face folder"
    assert report["model"]["name"] == "my-vit"
    assert report["prediction"]["target"]["label"] in LABELS.values()
    assert [found["method"] for found in report["attributions"]] == [
        "integrated-gradients", "saliency",
    ]  # fmt: skip
    assert "transformers" in report["provenance"]["packages"]
    assert str(tmp_path) not in (tmp_path / "out" / "report.json").read_text(encoding="utf-8")
    assert capfd.readouterr() == ("", "")


def _run() -> None:
    try:
        cli.main()
    except SystemExit as stop:
        assert stop.code in (0, None)
