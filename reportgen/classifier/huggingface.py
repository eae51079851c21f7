"""Image classifiers of transformers, from folders as ``save_pretrained`` writes them.

The network is transformers' own, with its weights and nothing drawn at random; what a picture's way
into it is, is measured on the folder's own image processor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reportgen.classifier.measured_preprocessing import measure
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.model_folders import ModelFolder, WeightFiles, weight_files
from reportgen.classifier.opened import Opened
from reportgen.classifier.patches import CutPatches, joined
from reportgen.classifier.transformers_library import quiet, require_transformers
from reportgen.errors import ModelError

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_COLOUR = 3

# Networks that transformers counts among image classifiers, but whose input is no picture.
_OTHER_INPUTS: Mapping[str, str] = {
    "imagegpt": "colour clusters",
    "shieldgemma2": "a picture together with a text",
}

_PATCHES = "siglip2"

_KINDS: tuple[tuple[str, str], ...] = (
    ("ForObjectDetection", "an object detector"),
    ("ForMaskedImageModeling", "a network from pre-training, without a classification head"),
    ("ForPreTraining", "a network from pre-training, without a classification head"),
    ("Segmentation", "a segmentation network"),
    ("DepthEstimation", "a depth estimator"),
    ("ForVideoClassification", "a classifier of videos"),
    ("ForCausalLM", "a language model"),
    ("ForConditionalGeneration", "a network that writes text"),
    ("SequenceClassification", "a classifier of texts"),
    ("Backbone", "a network without a classification head"),
    ("Model", "a network without a classification head"),
)


def open_transformers(folder: ModelFolder, trust_pickle: bool) -> Opened:
    """Return the image classifier in a ``folder``, on the CPU, in float32 and in eval mode.

    Raises ModelError for a folder that holds something else, that lacks weights for a part of the
    network, or whose weights are a pickle while ``trust_pickle`` is not set.
    """
    require_transformers(folder.name, "hf")
    with quiet():
        _check_kind(folder)
        config = _config(folder)
        files = weight_files(folder, trust_pickle)
        network, left_over = _network(folder, config, files)
        hints, notes = _preprocessing(folder, config)
    return Opened(
        network=_of_pictures(network, config),
        name=folder.name if folder.on_hub else folder.path.resolve().name,
        format="Hugging Face hub" if folder.on_hub else "Hugging Face folder",
        architecture=type(network).__name__,
        hints=combine(_head_hints(folder, config), hints),
        file_sha256=files.sha256(),
        trusted_pickle=files.pickled,
        notes=(*folder.commit_note(), *files.notes(), *left_over, *notes),
    )


def _check_kind(folder: ModelFolder) -> None:
    """Refuse a folder that holds no image classifier, saying what it holds instead."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    classifiers = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    kind = str(folder.config.get("model_type") or "")
    listed = folder.config.get("architectures")
    architecture = str(listed[0]) if listed and isinstance(listed, list) else ""
    if not kind:
        raise ModelError(
            f"config.json in '{folder.name}' has no 'model_type', so it is not known what network "
            "it describes; save the model again with save_pretrained."
        )
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"'{folder.name}' holds a model of the type '{kind}', which the installed transformers "
            "does not know; update transformers, or export the model with torch.export.save (.pt2)."
        )
    if architecture and architecture not in _names(classifiers.values()):
        raise ModelError(_not_a_classifier(folder, architecture))
    if kind not in classifiers:
        raise ModelError(_not_a_classifier(folder, f"model of the type '{kind}'"))
    _check_use(folder, kind)


def _check_use(folder: ModelFolder, kind: str) -> None:
    """Refuse a network that does not go from one picture to classes."""
    if kind in _OTHER_INPUTS:
        raise ModelError(
            f"'{folder.name}' holds a network that takes {_OTHER_INPUTS[kind]}, not the pixels of "
            "a picture; it cannot be explained here."
        )
    if folder.config.get("problem_type") == "regression":
        raise ModelError(
            f"'{folder.name}' holds a network for regression, which names no classes; only "
            "classifiers can be explained."
        )


def _config(folder: ModelFolder) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise _failure(folder, "The configuration", error) from None


def _names(values: Any) -> set[str]:
    return {name for value in values for name in ((value,) if isinstance(value, str) else value)}


def _not_a_classifier(folder: ModelFolder, architecture: str) -> str:
    from transformers.models.auto import modeling_auto

    zero_shot = modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES
    if architecture in _names(zero_shot.values()):
        what = "a network that compares pictures with texts"
    else:
        what = next((text for end, text in _KINDS if architecture.endswith(end)), "")
    return (
        f"'{folder.name}' holds a {architecture}{what and f' ({what})'}, not an image classifier; "
        "expected one of transformers' ...ForImageClassification."
    )


def _network(
    folder: ModelFolder, config: Any, files: WeightFiles
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network with all its weights, and a note on those that it has no use for."""
    from transformers import AutoModelForImageClassification

    try:
        network, loaded = AutoModelForImageClassification.from_pretrained(
            folder.path,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not files.pickled,
            weights_only=True,
            dtype=torch.float32,
            # Fixed, because a configuration may name an implementation that is fetched and run.
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:
        raise _failure(folder, "The network", error) from None
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(missing)} tensors of "
            f"{type(network).__name__} ({_first(missing)}), which would be random; give a folder "
            "with the trained classifier."
        )
    _hear_out(network)
    return network.eval(), _left_over(sorted(loaded["unexpected_keys"]))


def _of_pictures(network: nn.Module, config: Any) -> nn.Module:
    """Return the network itself, or, where it takes patches, one that cuts them out first."""
    if config.model_type != _PATCHES:
        return network
    return CutPatches(network, int(config.vision_config.patch_size)).eval()


def _hear_out(network: nn.Module) -> None:
    """Let transformers say now, unheard, what it says once of a network without a loss.

    Recording a network looks at each of its attributes, and would bring it up in the middle of a
    report.
    """
    for module in network.modules():
        getattr(module, "loss_function", None)


def _left_over(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"Tensors without a place in the network ({len(names)}) were left out: {_first(names)}.",
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _failure(folder: ModelFolder, what: str, error: Exception) -> ModelError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0].rstrip(".") if lines else type(error).__name__
    return ModelError(
        f"{what} in '{folder.name}' cannot be opened; check that its files belong together "
        f"(transformers says: {first})."
    )


def _head_hints(folder: ModelFolder, config: Any) -> Hints:
    names = getattr(config, "id2label", None) or {}
    labels = tuple(str(names[index]) for index in sorted(names))
    heads = {"multi_label_classification": "multilabel", "single_label_classification": "softmax"}
    head = heads.get(getattr(config, "problem_type", None) or "")
    if len(labels) == 1 and head == "softmax":
        head = None
    named = labels and not all(_PLACEHOLDER.fullmatch(label) for label in labels)
    return Hints(
        labels=Known(labels, "file") if named else None,
        head=Known(head, "file") if head else None,
    )


def _preprocessing(folder: ModelFolder, config: Any) -> tuple[Hints, tuple[str, ...]]:
    """Return what the folder's image processor does, or what is usual for its kind of network."""
    from transformers import AutoImageProcessor

    channels = int(_stated(config, "num_channels") or _COLOUR)
    if channels not in (1, _COLOUR):
        return _stated_size(config), ()
    if not any(folder.has(name) for name in _PROCESSORS):
        return _usual(config, channels), ()
    try:
        # Pillow's resize: the one that most of these networks were trained with.
        processor = AutoImageProcessor.from_pretrained(
            folder.path,
            config=config,
            backend="pil",
            local_files_only=True,
            trust_remote_code=False,
        )
        return measure(partial(_processed, processor), channels, "file")
    except ModelError:
        raise
    except Exception as error:
        raise _failure(folder, "The image processor", error) from None


def _processed(processor: Any, picture: Image.Image) -> Tensor:
    found = processor(picture, return_tensors="pt")
    pixels = torch.as_tensor(np.asarray(found["pixel_values"][0]))
    if "spatial_shapes" not in found:
        return pixels
    rows, columns = found["spatial_shapes"][0].tolist()
    return joined(pixels, rows, columns, int(processor.patch_size))


def _stated(config: Any, name: str) -> Any:
    """Return an entry of a configuration, or of the part of it that is about pictures."""
    found = getattr(config, name, None)
    return found if found else getattr(getattr(config, "vision_config", None), name, None)


def _stated_size(config: Any) -> Hints:
    """Return the input size that a configuration states, if it does."""
    size = _stated(config, "image_size")
    if config.model_type == _PATCHES:
        vision = config.vision_config
        size = int(vision.patch_size) * isqrt(int(vision.num_patches))
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    return Hints(crop=Known((sides[0], sides[1]), "file")) if len(sides) == 2 else Hints()


def _usual(config: Any, channels: int) -> Hints:
    """Return what is usual for this kind of network, where its folder has no image processor."""
    from transformers import IMAGE_PROCESSOR_MAPPING

    size = _stated_size(config)
    if channels != _COLOUR or type(config) not in IMAGE_PROCESSOR_MAPPING:
        return size
    made = IMAGE_PROCESSOR_MAPPING[type(config)]
    processor = (made.get("pil") or made["torchvision"])()
    usual, _ = measure(partial(_processed, processor), channels, "assumed")
    # Its sizes are those of one network that was published, and say nothing of another.
    return combine(size, replace(usual, resize=None, crop=None))
