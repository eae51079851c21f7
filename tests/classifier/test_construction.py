"""The right copy of the weights becomes the right network, or one sentence says why none does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from reportgen.classifier.architectures import Recognised, build
from reportgen.classifier.construction import Constructed, construct
from reportgen.classifier.fitting import Shapes, StateDict
from reportgen.classifier.state_dicts import find_weights
from reportgen.classifier.timm_architectures import skeleton
from reportgen.errors import ModelError

CLASSES = 7


def filled(shapes: Shapes, value: float = 0.0) -> StateDict:
    """Return tensors of these shapes that take no memory."""
    return OrderedDict((k, torch.tensor(value).expand(shape)) for k, shape in shapes.items())


def weights(name: str = "resnet18", value: float = 0.0) -> StateDict:
    network = build(Recognised(name, CLASSES))
    return filled({k: tuple(t.shape) for k, t in network.state_dict().items()}, value)


def timm_weights(name: str) -> StateDict:
    pytest.importorskip("timm")
    return filled(skeleton(name, {"num_classes": CLASSES}))


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in tensors.items()}


def made(content: object, arch: str = "", wanted: str = "", named: str = "") -> Constructed:
    return construct(find_weights(content, "m.pt", wanted), arch, named)


def value_of(result: Constructed) -> float:
    return float(result.network.get_parameter("fc.bias")[0].detach())


def test_an_average_is_used_where_there_is_one_unless_another_is_named() -> None:
    content = {"model": weights(value=1.0), "model_ema": prefixed("module.", weights(value=2.0))}
    content["model_ema"]["n_averaged"] = torch.tensor(9)
    assert value_of(made(content)) == 2
    assert "average over training" in made(content).notes[0]
    assert value_of(made(content, wanted="model")) == 1


def test_an_average_of_parameters_alone_falls_back_to_the_whole_network() -> None:
    whole = weights(value=1.0)
    averaged = {k: t for k, t in weights(value=2.0).items() if "running" not in k}
    result = made({"model": whole, "ema": averaged})
    assert value_of(result) == 1
    assert result.notes == (
        "The weights were read from the entry 'model' of the file; --weights can name another "
        "('ema').",
    )


def test_an_average_inside_the_network_is_used_and_the_rest_is_noted() -> None:
    both = {**prefixed("model.", weights(value=1.0)), **prefixed("ema_model.", weights(value=2.0))}
    result = made({"state_dict": both})
    assert value_of(result) == 2
    assert result.notes[-1].startswith("The tensors under 'ema_model.' were used; 122 others (mo")
    assert value_of(made({"state_dict": both}, wanted="model")) == 1


@pytest.mark.parametrize("prefix", ["model.", "net.", "classifier_network.", "module.model."])
def test_lightning_keeps_the_network_under_any_name_beside_losses(prefix: str) -> None:
    extra = {"criterion.weight": torch.ones(CLASSES), "val_confmat.confmat": torch.ones(7, 7)}
    result = made({"state_dict": {**prefixed(prefix, weights()), **extra}})
    assert result.architecture == "torchvision:resnet18"
    assert result.notes[-1] == (
        f"The tensors under '{prefix}' were used; 2 others (criterion.weight, val_confmat.confmat) "
        "beside them took no part."
    )


def test_a_layer_behind_a_whole_network_is_not_forgotten() -> None:
    given = {**prefixed("backbone.", weights()), "out.weight": torch.ones(3, CLASSES)}
    with pytest.raises(ModelError) as caught:
        made(given)
    assert str(caught.value) == (
        "'m.pt' holds torchvision:resnet18 under 'backbone.', but beside it 1 other (out.weight), "
        "which may take part in a prediction; name the whole architecture with --arch "
        "package.module:factory, or give --weights backbone to leave the others out."
    )
    assert made(given, wanted="backbone").architecture == "torchvision:resnet18"


@pytest.mark.parametrize("head", ["head.fc.", "head.", "classifier."])
def test_a_backbone_and_its_head_are_one_network(head: str) -> None:
    given = {
        key.replace("fc.", head) if "fc" in key else f"backbone.{key}": tensor
        for key, tensor in weights(value=3.0).items()
    }
    result = made({"meta": {"epoch": 1}, "state_dict": given})
    assert result.architecture == "torchvision:resnet18"
    assert value_of(result) == 3
    assert f"The layer '{head[:-1]}' of the file was taken for the network's head." in result.notes


def test_a_head_of_another_width_is_not_put_on() -> None:
    given = prefixed("backbone.", {k: t for k, t in weights().items() if "fc" not in k})
    with pytest.raises(ModelError, match="holds torchvision:resnet18 without its classification h"):
        made({**given, "head.weight": torch.ones(7, 99), "head.bias": torch.ones(7)})


@pytest.mark.parametrize("part", ["encoder_q", "module.encoder_k", "online_encoder"])
def test_contrastive_training_leaves_no_classes(part: str) -> None:
    given = {**prefixed(f"{part}.", weights()), "queue": torch.ones(128, 99)}
    with pytest.raises(ModelError, match=r"as an encoder of self-supervised training \('.*'\), wh"):
        made({"state_dict": given})


def test_self_distillation_leaves_no_head() -> None:
    bare = {k: t for k, t in timm_weights("vit_small_patch16_224").items() if "head" not in k}
    part = {**prefixed("backbone.", bare), "head.last_layer.weight_v": torch.ones(999, 256)}
    with pytest.raises(ModelError) as caught:
        made({"student": prefixed("module.", part), "teacher": part, "epoch": 3})
    assert str(caught.value) == (
        "'m.pt' holds timm:vit_small_patch16_224 without its classification head (head.weight, "
        "head.bias), as self-supervised training leaves it, and so has no classes to explain; give "
        "the classifier that was trained from it, or, where it has a head of another kind, name "
        "its architecture with --arch package.module:factory."
    )


def test_the_names_that_both_libraries_share_are_torchvisions() -> None:
    result = made(weights("densenet121"))
    assert result.architecture == "torchvision:densenet121"
    assert result.recognised == Recognised("densenet121", CLASSES)


def test_a_network_that_only_timm_has_is_built_by_timm() -> None:
    result = made({"state_dict": prefixed("model.", timm_weights("tf_efficientnet_b0"))})
    assert (result.architecture, result.classes) == ("timm:efficientnet_b0", CLASSES)
    assert result.recognised is None
    assert result.notes[-1] == (
        "The weights fit 2 more of timm's architectures (efficientnet_blur_b0, "
        "tf_efficientnet_b0), which may compute otherwise; --arch timm:NAME chooses another."
    )


@pytest.mark.parametrize("how", ["arch", "named"])
def test_the_user_or_the_file_chooses_among_those_that_fit(how: str) -> None:
    given = timm_weights("tf_efficientnet_b0")
    asked = "timm:tf_efficientnet_b0" if how == "arch" else "tf_efficientnet_b0"
    result = made(given, asked) if how == "arch" else made(given, named=asked)
    assert result.architecture == "timm:tf_efficientnet_b0"
    assert result.notes[1:] == ()


def test_a_file_may_name_a_network_of_timm_with_torchvisions_names() -> None:
    pytest.importorskip("timm")
    assert made(weights(), named="resnetblur18").architecture == "timm:resnetblur18"
    assert made(weights(), named="resnet18").architecture == "torchvision:resnet18"
    assert made(weights(), "timm:resnet18").architecture == "timm:resnet18"
    assert made(weights(), "torchvision:resnet18", named="resnetblur18").recognised is not None


def test_the_named_network_of_timm_that_does_not_fit_is_told() -> None:
    with pytest.raises(ModelError, match=r"does not fit 'timm:levit_128s', with \d+ of its tens"):
        made(weights(), "timm:levit_128s")
