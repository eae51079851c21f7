"""The networks that coverage is measured on, and the files that their users would have of them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reportgen.classifier.torchvision_operators import ensure_torchvision

SEED = 0
CLASSES = 1000
FORMATS = ("state dict", "TorchScript", "exported program", "ONNX")

# The smallest classifier of each of timm's modules, by parameters times pixels; those of which
# there is none with a head (deepseek_vit, gemma4_vit, qwen3_vit) are left out.
TIMM = (
    "beit_base_patch16_224", "halonet_h1", "mobileone_s1", "cait_xxs24_224", "coat_tiny",
    "convit_tiny", "convmixer_768_32", "convnext_zepto_rms", "cpubone_nano", "crossvit_tiny_240",
    "csatv2", "cs3darknet_focus_s", "cspnext_tiny", "davit_tiny", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "densenet121", "dla46x_c", "dpn48b", "edgenext_xx_small",
    "efficientformer_l1", "efficientformerv2_s0", "mnasnet_small", "efficientnet_b0",
    "efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_336",
    "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050",
    "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hieradet_small", "hrnet_w18_small",
    "iformer_t", "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4",
    "lcnetv2_small", "levit_128s", "lowformer_b0", "mambaout_femto", "maxvit_pico_rw_256",
    "coatnet_nano_rw_224", "poolformerv2_s12", "gmlp_ti16_224", "mixer_s32_224", "resmlp_12_224",
    "mobilenetv3_small_050", "mobilenetv5_base", "mobilevit_xxs", "mvitv2_tiny",
    "naflexvit_base_patch16_gap", "nasnetalarge", "nest_tiny", "nextvit_small", "nf_regnet_b0",
    "pit_ti_224", "pnasnet5large", "pvt_v2_b0", "rdnet_tiny", "regnetx_002", "repghostnet_050",
    "repvit_m1", "res2next50", "resnest14d", "resnet10t", "resnetv2_18", "rexnet_100",
    "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050",
    "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224", "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m",
    "twins_svt_small", "vgg11", "visformer_tiny", "flexivit_small", "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2", "vit_tiny_r_s16_p8_224", "vit_srelpos_small_patch16_224",
    "samvit_base_patch16_224", "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_slim_dw",
    "legacy_xception", "xception41p", "xcit_nano_12_p8_224",
)  # fmt: skip

# The weights among the assets: the factory in tests/factories.py that takes each, "" where the
# architecture is torchvision's; channels and side of the input.
ASSETS: Mapping[str, tuple[str, int, int]] = {
    "mobilenet_v2_imagenet": ("", 3, 224),
    "squeezenet1_1_imagenet": ("", 3, 224),
    "resnet20_cifar10": ("resnet20", 3, 32),
    "resnet56_cifar10": ("resnet56", 3, 32),
    "densenet_bc100_k12_cifar10": ("densenet_bc100", 3, 32),
    "vit_cifar10": ("vit_cifar10", 3, 32),
    "mnist_cnn": ("mnist_cnn", 1, 28),
}
_DEPTH = 4
_MISSING_FROM_FOLDER = ("shieldgemma2", "timm_wrapper")


@dataclass(frozen=True)
class Case:
    """One network of a group, which ``make`` builds anew, in eval mode."""

    group: str
    name: str
    make: Callable[[], nn.Module]
    first: str = "state dict"


def cases(group: str, assets: Path | None = None) -> Iterator[Case]:
    """Yield the networks of "torchvision", "timm", "transformers" or "assets"."""
    ensure_torchvision()
    if group == "torchvision":
        from torchvision import models

        for name in models.list_models(module=models):
            yield Case(group, name, partial(_torchvision, name))
    elif group == "timm":
        yield from (Case(group, name, partial(_timm, name)) for name in TIMM)
    elif group == "transformers":
        for name in _transformers_names():
            yield Case(group, name, partial(_transformers, name), "folder")
    elif assets is not None:
        for name, (factory, _, _) in ASSETS.items():
            yield Case(group, name, partial(_asset, assets / "weights" / f"{name}.pth", factory))


def save(case: Case, network: nn.Module, format: str, example: Tensor, folder: Path) -> Path:
    """Return the path of the network saved in ``format`` as its user would; raises what fails."""
    stem = folder / case.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format == "folder":
            return _folder(network, stem)
        if format == "state dict":
            return _saved(network.state_dict(), stem.with_suffix(".pt"))
        plain = Scores(network).eval()
        if format == "TorchScript":
            return _traced(plain, example, stem.with_suffix(".torchscript.pt"))
        if format == "exported program":
            return _exported(plain, example, stem.with_suffix(".pt2"))
        return _onnx(plain, example, stem.with_suffix(".onnx"))


def input_shape(case: Case, network: nn.Module) -> tuple[int, int, int]:
    """Return (channels, height, width) that the network was made for; of several, the smallest."""
    if case.group == "assets":
        _, channels, side = ASSETS[case.name]
        return channels, side, side
    if case.group == "timm":
        channels, height, width = network.default_cfg["input_size"]
        return channels, height, width
    if case.group == "torchvision":
        from torchvision import models

        published = models.get_model_weights(case.name)
        side = min(weights.transforms().crop_size[0] for weights in published)
        return 3, side, side
    config = network.config
    side = getattr(config, "image_size", None)
    side = getattr(getattr(config, "vision_config", None), "image_size", side) or 224
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return getattr(config, "num_channels", 3), height, width


def calibrated(network: nn.Module, pictures: Tensor) -> nn.Module:
    """Return the network with batch statistics of ``pictures``, as if it had been trained on them.

    With those of initialisation, the activations of a deep network die out or blow up. Linear
    layers that begin with zeros, such as heads that give every picture the same score, are drawn
    at random.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear) and not bool(module.weight.any()):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    if norms:
        with torch.no_grad():
            network(pictures)
    return network.eval()


class OfPatches(nn.Module):
    """SigLIP 2, which is given patches, as a network of pictures."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._side = int(network.config.vision_config.patch_size)

    def forward(self, pixels: Tensor) -> Any:
        count, channels, height, width = pixels.shape
        cut = nn.functional.unfold(pixels, self._side, stride=self._side)
        patches = cut.reshape(count, channels, self._side**2, -1).permute(0, 3, 2, 1).flatten(2)
        grid = torch.tensor([[height // self._side, width // self._side]])
        return self.network(patches, torch.ones(count, patches.shape[1]), grid)


def of_pictures(network: nn.Module) -> nn.Module:
    """Return the network as one that takes pictures."""
    kind = getattr(getattr(network, "config", None), "model_type", "")
    return OfPatches(network) if kind == "siglip2" else network


class Scores(nn.Module):
    """The class scores alone, of pictures: other formats carry no dictionaries."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = of_pictures(network)

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.network(pixels)
        if isinstance(output, Tensor):
            return output
        # PP-LCNet of transformers gives its class scores under another name.
        return output.logits if "logits" in output else output.last_hidden_state


def _saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def _folder(network: nn.Module, path: Path) -> Path:
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    network.save_pretrained(path)  # type: ignore[operator]
    with suppress(KeyError):  # some are published with the processor of another family
        IMAGE_PROCESSOR_MAPPING[type(network.config)]["pil"]().save_pretrained(path)
    return path


def _traced(network: nn.Module, example: Tensor, path: Path) -> Path:
    with torch.no_grad():
        torch.jit.trace(network, example, check_trace=False).save(str(path))
    return path


def _exported(network: nn.Module, example: Tensor, path: Path) -> Path:
    try:
        program = torch.export.export(
            network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )
    except Exception:  # what specialises on the batch is exported with a fixed one
        program = torch.export.export(network, (example[:1],))
    torch.export.save(program, path)
    return path


def _onnx(network: nn.Module, example: Tensor, path: Path) -> Path:
    options = {"input_names": ["pixels"], "output_names": ["scores"], "verbose": False}
    try:
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            **options,
        )
    except Exception:  # the older exporter takes what the newer one does not, and the reverse
        axes = {"pixels": {0: "batch"}, "scores": {0: "batch"}}
        torch.onnx.export(
            network, (example,), str(path), dynamo=False, dynamic_axes=axes, **options
        )
    return path


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    network = models.get_model(name, weights=None).eval()
    if hasattr(network, "transform_input"):
        network.transform_input = True  # as it is built for the published weights
    return network


def _timm(name: str) -> nn.Module:
    import timm

    # Some are published without a head; a user's classifier has one.
    headless = timm.models.get_pretrained_cfg_value(name, "num_classes") == 0
    return timm.create_model(name, num_classes=CLASSES if headless else None).eval()


def _transformers_names() -> list[str]:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )

    names = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return [name for name in names if name not in _MISSING_FROM_FOLDER]


def _transformers(name: str) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )

    config = AutoConfig.for_model(name, num_labels=CLASSES)
    known = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[name]
    # As deep as it takes to be of its kind: what is tried is the kind, not its size.
    for depth in ("num_hidden_layers", "n_layer"):
        if isinstance(getattr(config, depth, None), int) and not hasattr(config, "stage_names"):
            setattr(config, depth, min(getattr(config, depth), _DEPTH))
    config.architectures = [known if isinstance(known, str) else known[0]]
    return AutoModelForImageClassification.from_config(config).eval()


def _asset(path: Path, factory: str) -> nn.Module:
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not factory:
        from torchvision import models

        network = models.get_model(path.stem.removesuffix("_imagenet"), weights=None)
    else:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        import factories

        network = getattr(factories, factory)()
    network.load_state_dict(weights)
    return network.eval()
