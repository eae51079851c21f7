"""timm's classifiers are recognised by the shapes of their state dicts, and built as timm does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from reportgen.classifier.fitting import Shapes, load_weights, shapes_of
from reportgen.classifier.timm_architectures import (
    INDEX,
    Family,
    TimmNetwork,
    build_timm,
    indexed_timm,
    is_timm,
    known_families,
    nearest_timm,
    recognise_timm,
    skeleton,
)
from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import ModelError

ensure_torchvision()

timm = pytest.importorskip("timm")

SAME_VERSION = timm.__version__ == indexed_timm()
needs_indexed_version = pytest.mark.skipif(
    not SAME_VERSION, reason="the index is of another version of timm than the one installed"
)
VIT = "vit_tiny_patch16_224"

# One small member of each of many families, as different from one another as they come.
SAMPLE = (
    VIT, "beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "coatnet_pico_rw_224",
    "convmixer_768_32", "convnext_atto", "crossvit_9_240", "cs3darknet_s", "davit_tiny",
    "deit_tiny_distilled_patch16_224", "dla34", "edgenext_xx_small", "efficientformer_l1",
    "efficientnet_b0", "efficientvit_m0", "eva02_tiny_patch14_224", "fastvit_t8",
    "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050", "hardcorenas_a", "inception_next_atto",
    "levit_128s", "mixer_s32_224", "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "pit_ti_224",
    "poolformer_s12", "pvt_v2_b0", "regnetx_002", "repvgg_a0", "resmlp_12_224", "sequencer2d_s",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "tiny_vit_5m_224",
    "twins_svt_small", "visformer_tiny", "volo_d1_224", "xcit_nano_12_p16_224",
)  # fmt: skip


def shapes(name: str, **options: Any) -> Shapes:
    return skeleton(name, {"num_classes": 7, **options})


@pytest.mark.parametrize("name", SAMPLE)
def test_a_member_of_every_family_is_recognised(name: str) -> None:
    found = recognise_timm(shapes(name), name)
    assert found == TimmNetwork(name, 7)
    plain = recognise_timm(shapes(name))
    assert plain is not None
    assert name in (plain.name, *plain.others)


@needs_indexed_version
def test_the_index_is_what_the_installed_timm_gives() -> None:
    from reportgen.classifier.timm_index import describe_families

    names = (VIT, "deit_tiny_patch16_224", "resnetv2_50", "levit_128s", "pit_ti_224")
    made = describe_families([*names, "qwen3_vit_88m_enc"])
    known = {(family.names, family.shapes): family for family in known_families()}
    assert {name for family in made for name in family.members} == set(names)
    for family in made:
        shipped = known[family.names, family.shapes]
        assert family.members.items() <= shipped.members.items()
        assert replace(shipped, members={}) == replace(family, members={})


@needs_indexed_version
def test_the_index_knows_every_classifier() -> None:
    known = {name for family in known_families() for name in family.members}
    encoders = {name for name in timm.list_models() if name.endswith("_enc")}
    assert known == set(timm.list_models()) - encoders


def test_no_two_families_share_their_digests() -> None:
    digests = {(family.names, family.shapes) for family in known_families()}
    assert len(digests) == len(known_families()) > 1000


def test_the_index_is_small() -> None:
    assert Path(str(files("reportgen.classifier") / INDEX)).stat().st_size < 100_000


@pytest.mark.parametrize(
    ("name", "side", "own"),
    [
        (VIT, 320, False),
        (VIT, 96, False),
        ("eva02_tiny_patch14_224", 280, False),
        ("levit_128s", 256, False),
        ("vit_small_patch16_224", 96, False),
        ("vit_small_patch16_224", 384, True),
    ],
)
def test_the_size_of_the_pictures_is_read(name: str, side: int, own: bool) -> None:
    found = recognise_timm(shapes(name, img_size=side))
    assert found is not None
    if own:
        assert (found.name, found.side) == ("vit_small_patch16_384", None)
    else:
        assert (found.name, found.side) == (name, side)


def test_positions_that_make_no_square_are_not_recognised() -> None:
    given = {**shapes(VIT), "pos_embed": (1, 199, 192)}
    assert recognise_timm(given) is None


@pytest.mark.parametrize("name", [VIT, "convnext_atto", "crossvit_9_240"])
@pytest.mark.parametrize("channels", [1, 5])
def test_other_input_channels_are_recognised(name: str, channels: int) -> None:
    found = recognise_timm(shapes(name, in_chans=channels), name)
    assert found == TimmNetwork(name, 7, channels)


def test_the_plainest_of_several_that_fit_is_chosen_and_the_others_are_told() -> None:
    found = recognise_timm(shapes("tf_efficientnet_b0"))
    assert found is not None
    assert found.name == "efficientnet_b0"
    assert found.others == ("efficientnet_blur_b0", "tf_efficientnet_b0")


@pytest.mark.parametrize(
    ("named", "expected", "tag", "sure"),
    [
        ("tf_efficientnet_b0", "tf_efficientnet_b0", "", True),
        ("tf_efficientnet_b0.ns_jft_in1k", "tf_efficientnet_b0", "ns_jft_in1k", True),
        ("tf_efficientnet_b0_ns-c0e6a31c", "tf_efficientnet_b0", "", False),
        ("efficientnet_b0abc", "efficientnet_b0", "", False),
        ("tf_efficientnet_b01", "efficientnet_b0", "", False),
        ("resnet50", "efficientnet_b0", "", False),
    ],
)
def test_the_name_in_the_file_chooses_among_those_that_fit(
    named: str, expected: str, tag: str, sure: bool
) -> None:
    found = recognise_timm(shapes("tf_efficientnet_b0"), named)
    assert found is not None
    assert (found.name, found.tag) == (expected, tag)
    assert (found.others == ()) == sure


@pytest.mark.parametrize(
    "change", [{"head.bias": (8,)}, {"norm.bias": (193,)}, {"extra": (2,)}, {"head.weight": ()}]
)
def test_another_network_is_not_taken_for_one_of_timm(
    change: Mapping[str, tuple[int, ...]],
) -> None:
    assert recognise_timm({**shapes(VIT), **change}) is None


@pytest.mark.parametrize("found", [TimmNetwork("efficientvit_m0", 3), TimmNetwork(VIT, 3, 1, 64)])
def test_a_network_is_built_as_timm_builds_it(found: TimmNetwork) -> None:
    torch.manual_seed(0)
    options = {"in_chans": found.channels, **({"img_size": found.side} if found.side else {})}
    theirs = timm.create_model(found.name, num_classes=3, **options).eval()
    before = torch.get_rng_state()
    ours = build_timm(found)
    assert torch.equal(torch.get_rng_state(), before)
    load_weights(ours, theirs.state_dict(), assign=True)
    side = found.side or 224
    batch = torch.rand(1, found.channels, side, side)
    with torch.no_grad():
        assert torch.equal(ours.eval()(batch), theirs(batch))
    assert ours.pretrained_cfg["input_size"] == (found.channels if found.side else 3, side, side)


def test_the_tag_of_the_weights_chooses_what_timm_publishes_of_them() -> None:
    tagged = build_timm(TimmNetwork(VIT, 3, tag="augreg_in21k"))
    assert tagged.pretrained_cfg["tag"] == "augreg_in21k"
    unknown = build_timm(TimmNetwork(VIT, 3, tag="of_mine"))
    assert unknown.pretrained_cfg["tag"] == build_timm(TimmNetwork(VIT, 3)).pretrained_cfg["tag"]


def test_reading_the_index_does_not_need_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    given, larger = shapes(VIT), shapes(VIT, img_size=96)
    monkeypatch.setitem(sys.modules, "timm", None)
    known_families.cache_clear()
    found = recognise_timm(given)
    assert found is not None
    for needs in (lambda: build_timm(found), lambda: recognise_timm(larger)):
        with pytest.raises(ModelError) as caught:
            needs()
        assert str(caught.value) == (
            f"The architecture 'timm:{VIT}' needs timm, which is not installed; install it with: "
            "pip install 'reportgen[timm]'."
        )


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "levit_128s"])
def test_the_nearest_is_the_one_that_was_changed(name: str) -> None:
    given = dict(shapes(name))
    given["another.weight"] = given.pop(next(key for key in given if "head" in key))
    near = nearest_timm(given)
    assert near is not None
    assert near[0].name.startswith(name.rpartition("_")[0])
    assert shapes_of(build_timm(near[0]).state_dict()).keys() == near[1].keys()


def test_nothing_is_near_to_a_network_of_other_names() -> None:
    assert nearest_timm({"alpha.kernel": (3, 3), "beta.kernel": (3, 3)}) is None


@pytest.mark.parametrize(
    ("name", "expected"), [(VIT, True), (f"{VIT}.augreg_in21k", True), ("vit_of_mine", False)]
)
def test_names_are_known_with_and_without_tags(name: str, expected: bool) -> None:
    assert is_timm(name) == expected


def test_families_have_what_recognising_needs() -> None:
    def whole(family: Family) -> bool:
        return bool(family.heads and family.members and family.parameters and family.top)

    assert all(whole(family) for family in known_families())
    assert all(family.step > 0 for family in known_families() if family.sized)
