"""Image classifiers of timm: folders that it wrote, and the weights that it publishes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from torch import nn

from reportgen.classifier.hub import find_repository, missing_library
from reportgen.classifier.metadata import Hints, Known, combine
from reportgen.classifier.model_folders import ModelFolder, WeightFiles, weight_files
from reportgen.classifier.opened import Opened
from reportgen.classifier.published import timm_hints, timm_notes
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError, UsageError
from reportgen.records import Source

_PLACE = "timm:"

# What a configuration may say about weights; what it says of places to fetch them from is left out.
_DATA = (
    "classifier", "crop_mode", "crop_pct", "first_conv", "fixed_input_size", "input_size",
    "interpolation", "label_offset", "mean", "num_classes", "pool_size", "std", "tag",
)  # fmt: skip
_ARGUMENTS = ("num_classes", "global_pool")
_KEPT_OUT = (
    "cache_dir", "checkpoint_path", "device", "dtype", "exportable", "features_only", "model_name",
    "no_jit", "scriptable",
)  # fmt: skip


def is_timm_name(source: str) -> bool:
    """Return whether ``source`` names weights that timm publishes, as in ``timm:resnet18``."""
    return source.startswith(_PLACE)


def is_timm_folder(folder: ModelFolder) -> bool:
    """Return whether timm wrote the folder, and not transformers."""
    return "architecture" in folder.config


def open_timm_name(source: str, allow_download: bool, trust_pickle: bool) -> Opened:
    """Return the network of ``timm:NAME`` or ``timm:NAME.TAG`` with the weights timm publishes.

    Raises UsageError for a name that timm does not know; ModelError where it has no weights, or
    they are neither in the local cache nor allowed to be fetched.
    """
    timm = _timm(source)
    name = source.removeprefix(_PLACE)
    try:
        published = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        raise _unknown(name, timm.list_models(pretrained="." in name)) from None
    if not published.hf_hub_id:
        raise ModelError(
            f"timm publishes no weights of '{name}' on the Hugging Face hub; give a file of "
            f"weights, with --arch timm:{published.architecture or name}."
        )
    folder = find_repository(published.hf_hub_id, allow_download, trust_pickle)
    opened = _opened(folder, trust_pickle, "weights metadata")
    tagged = f"{published.architecture}.{published.tag}" if published.tag else name
    return replace(opened, name=f"{_PLACE}{tagged}", format="published weights")


def _unknown(name: str, known: list[str]) -> UsageError:
    near = get_close_matches(name, known, n=5, cutoff=0.4) or ["(none)"]
    return UsageError(f"timm has no classifier '{name}'; the nearest are: {', '.join(near)}.")


def open_timm(folder: ModelFolder, trust_pickle: bool) -> Opened:
    """Return the network in a ``folder`` that timm wrote, in float32 and in eval mode.

    Raises ModelError for an architecture that timm does not know, and for weights that do not fit
    it or are a pickle while ``trust_pickle`` is not set.
    """
    opened = _opened(folder, trust_pickle, "file")
    if folder.on_hub:
        return replace(opened, name=folder.name, format="Hugging Face hub")
    return replace(opened, name=folder.path.resolve().name)


def _opened(folder: ModelFolder, trust_pickle: bool, source: Source) -> Opened:
    files = weight_files(folder, trust_pickle)
    network, made = _network(folder, files)
    return Opened(
        network=network,
        name="",
        format="Hugging Face folder",
        architecture=f"{_PLACE}{made}",
        hints=combine(_labels(folder, network, source), timm_hints(network, source)),
        file_sha256=files.sha256(),
        trusted_pickle=files.pickled,
        notes=(*folder.commit_note(), *files.notes(), *timm_notes(network)),
    )


def _timm(source: str) -> Any:
    ensure_torchvision()
    try:
        import timm
    except ImportError:
        raise missing_library(source, "timm", "timm") from None
    return timm


def _network(folder: ModelFolder, files: WeightFiles) -> tuple[nn.Module, str]:
    """Return the network with its weights, every one of them from the file, and its architecture.

    The weights go through timm, which renames what older versions of it wrote.
    """
    timm, name = _timm(folder.name), str(folder.config["architecture"])
    if ":" in name or not timm.is_model(name):
        raise ModelError(
            f"'{folder.name}' holds a network of the architecture '{name}', which the installed "
            "timm does not know; update timm."
        )
    try:
        network = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=_overlay(folder, files), **_given(folder)
        )
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(":.")
        raise ModelError(
            f"The network in '{folder.name}' cannot be opened; check that its files belong "
            f"together (timm says: {first})."
        ) from None
    return network.float().eval(), name


def _overlay(folder: ModelFolder, files: WeightFiles) -> dict[str, Any]:
    """Return what the configuration says of its weights, to be taken from the file and whole."""
    if len(files.paths) > 1:
        raise ModelError(
            f"'{folder.name}' holds weights divided among {len(files.paths)} files, which timm "
            "does not read; save them as one model.safetensors."
        )
    said = _section(folder, "pretrained_cfg")
    overlay = {key: said[key] for key in _DATA if said.get(key) is not None}
    arguments = _given(folder)
    # The same numbers on both sides: else timm leaves out the head, or adds up colour channels.
    if "num_classes" in arguments:
        overlay["num_classes"] = arguments["num_classes"]
    if "in_chans" in arguments and "input_size" in overlay:
        overlay["input_size"] = [arguments["in_chans"], *overlay["input_size"][1:]]
    return {**overlay, "file": str(files.paths[0]), "custom_load": False}


def _given(folder: ModelFolder) -> dict[str, Any]:
    """Return the arguments that the network was built with, without those that fetch or read."""
    arguments = _section(folder, "model_args")
    stated = {key: folder.config[key] for key in _ARGUMENTS if folder.config.get(key) is not None}
    kept = {key: value for key, value in arguments.items() if key not in _KEPT_OUT}
    return {**stated, **{k: v for k, v in kept.items() if not k.startswith("pretrained")}}


def _section(folder: ModelFolder, name: str) -> Mapping[str, Any]:
    found = folder.config.get(name)
    return found if isinstance(found, dict) else {}


def _labels(folder: ModelFolder, network: nn.Module, source: Source) -> Hints:
    """Return the labels in the configuration, else those of the ImageNet of as many classes."""
    said = _section(folder, "pretrained_cfg")
    names = folder.config.get("label_names") or said.get("label_names")
    texts = folder.config.get("label_descriptions") or said.get("label_descriptions")
    if names and isinstance(names, list):
        known = texts if isinstance(texts, dict) else {}
        labels = tuple(str(known.get(str(name), name)) for name in names)
        return Hints(labels=Known(labels, source))
    return imagenet_hints(network, "assumed" if source == "file" else source)


def imagenet_hints(network: nn.Module, source: Source) -> Hints:
    """Return the labels of the ImageNet that has as many classes as a network, if there is one."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(network)
    if subset is None:
        return Hints()
    info = ImageNetInfo(subset)
    labels = tuple(info.index_to_description(index) for index in range(info.num_classes()))
    return Hints(labels=Known(labels, source))
