"""Attention rollout and relevance: the papers' maps, in every format, and on the drawn object."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from attending import FORMS, AttendingViT
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from toys import classified, exported, pictures, request, seeded, traced

from reportgen.attribution import METHODS, Explained

WIDE = (3, 16, 24)
TARGET = 1
BOTH = ("attention-rollout", "attention-relevance")


def explained(method: str, network: nn.Module, pixels: Tensor, target: int = TARGET) -> Explained:
    with classified(network, tuple(pixels.shape[1:])) as classifier:
        return METHODS[method].explain(request(classifier, pixels, target))


def slowly(method: str, network: AttendingViT, pixels: Tensor) -> Tensor:
    """Return what each token has in the tokens read (n, tokens), by the papers' equations."""
    score = network(pixels)[:, TARGET].sum()
    matrices = network.matrices()
    gradients = torch.autograd.grad(score, matrices)
    rows = range(network.prefix, matrices[0].shape[-1]) if network.reading == "mean" else [0]
    found = []
    for picture in range(len(pixels)):
        joined = torch.eye(matrices[0].shape[-1]).double()
        for matrix, gradient in zip(matrices, gradients, strict=True):
            a, g = matrix[picture].double(), gradient[picture].double()
            if method == "attention-rollout":
                mixed = 0.5 * sum(a) / len(a) + 0.5 * torch.eye(a.shape[-1])
                joined = mixed @ joined
            else:
                heads = [(g[head] * a[head]).clamp(min=0) for head in range(len(a))]
                joined = joined + sum(heads) / len(heads) @ joined
        if method == "attention-relevance":
            joined = joined - torch.eye(len(joined))
        found.append(sum(joined[row] for row in rows) / len(rows))
    return torch.stack(found).detach().float()


def enlarged(tokens: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    cells = tokens[:, prefix:].reshape(-1, 1, *grid)
    return interpolate(cells, scale_factor=4, mode="bilinear")[:, 0]


def share_off(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    if found.shape != expected.shape:
        return torch.inf
    return float((found - expected).abs().max() / expected.abs().max())


# Another order of summing; the largest difference measured is 2e-6.
ROUNDING = 1e-5


@pytest.mark.parametrize("reading", ["class", "mean"])
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("method", BOTH)
def test_the_map_is_that_of_the_paper(method: str, registers: int, reading: str) -> None:
    network = seeded(lambda: AttendingViT("kept", reading, registers))
    pixels = pictures(2, *WIDE)
    tokens = slowly(method, network, pixels)
    expected = enlarged(tokens, network.prefix, (4, 6))
    found = explained(method, network, pixels)
    assert share_off(found.maps, expected) < ROUNDING
    assert share_off(found.maps, expected.flip(2)) > 0.01
    assert share_off(found.maps, expected.flip(0)) > 0.001
    (check,) = found.checks
    placeless = float(tokens[0, : network.prefix].sum() / tokens[0].sum())
    assert check.value == pytest.approx(placeless, abs=1e-5)


def test_the_two_methods_are_told_apart() -> None:
    network = seeded(lambda: AttendingViT("kept"))
    pixels = pictures(2, *WIDE)
    expected = enlarged(slowly(BOTH[0], network, pixels), 1, (4, 6))
    assert share_off(explained(BOTH[1], network, pixels).maps, expected) > 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", BOTH)
def test_the_map_is_the_same_however_attention_is_computed(method: str, form: str) -> None:
    pixels = pictures(2, *WIDE)
    expected = explained(method, seeded(AttendingViT), pixels).maps
    found = explained(method, seeded(lambda: AttendingViT(form)), pixels).maps
    assert share_off(found, expected) < ROUNDING
    assert share_off(found, expected.flip(0)) > 0.001


@pytest.mark.parametrize("store", [exported, traced])
@pytest.mark.parametrize("method", BOTH)
def test_files_give_the_map_of_the_eager_network(method: str, store: object) -> None:
    pixels = pictures(2, *WIDE)
    network = seeded(lambda: AttendingViT("fused"))
    expected = explained(method, network, pixels)
    found = explained(method, store(network, WIDE), pixels)
    assert share_off(found.maps, expected.maps) < ROUNDING
    assert share_off(found.maps, expected.maps.flip(0)) > 0.001
    assert found.settings == expected.settings


def test_the_record_says_what_was_read() -> None:
    found = explained(BOTH[1], seeded(lambda: AttendingViT("fused", "both", 4)), pictures(1))
    assert found.resolution == "4x4 patches"
    assert found.settings == {
        "score": "logit",
        "blocks": 3,
        "heads": 2,
        "tokens without a place": 5,
        "read behind the last block": "the class token and patches",
    }


SIDE, SPOT = 32, 8
COLOURS = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9]])


def drawn(count: int, seed: int, spots: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy pictures with coloured squares, the colours, and a mask of each square."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(count, 3, SIDE, SIDE, generator=generator) * 0.6
    colours = torch.rand(count, 3, generator=generator).argsort(1)[:, :spots]
    masks = torch.zeros(count, spots, SIDE, SIDE, dtype=torch.bool)
    for picture in range(count):
        for spot in range(spots):
            # Several squares keep to their own part of the picture.
            low, high = spot * SIDE // spots, (spot + 1) * SIDE // spots - SPOT
            top = int(torch.randint(0, SIDE - SPOT + 1, (1,), generator=generator))
            left = int(torch.randint(low, high + 1, (1,), generator=generator))
            masks[picture, spot, top : top + SPOT, left : left + SPOT] = True
            pixels[picture][:, masks[picture, spot]] = COLOURS[colours[picture, spot], :, None]
    return pixels, colours, masks


@cache
def trained() -> nn.Module:
    """Return a transformer that says for each colour whether a square in the noise has it."""
    network = seeded(lambda: AttendingViT("fused", depth=2)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    batches = [drawn(32, seed, spots=1 + seed % 2) for seed in range(12)]
    for pixels, colours, _ in batches * 10:
        shown = torch.zeros(len(pixels), 3).scatter(1, colours, 1)
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(network(pixels), shown).backward()
        optimiser.step()
    return network.eval()


def inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share (n,) of the maps (n, H, W) that lies in the masks (n, H, W)."""
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def test_relevance_falls_into_the_object() -> None:
    pixels, colours, masks = drawn(60, 1000)
    network = trained()
    assert float((network(pixels).argmax(1) == colours[:, 0]).float().mean()) > 0.95
    floor = masks[:, 0].float().mean((1, 2))
    better = []
    for target in range(3):
        chosen = colours[:, 0] == target
        maps = explained(BOTH[1], network, pixels[chosen], target).maps
        better.append(inside(maps, masks[chosen, 0]) > 2 * floor[chosen])
    assert float(torch.cat(better).float().mean()) >= 0.9
    turned = explained(BOTH[1], network, pixels, 0).maps.flip(1, 2)
    assert float((inside(turned, masks[:, 0]) > 2 * floor).float().mean()) < 0.5


def own_before_other(method: str, pixels: Tensor, colours: Tensor, masks: Tensor) -> float:
    """Return how often a colour's map has more in its own square than in the other."""
    found = []
    for target in range(3):
        for own in range(2):
            shown = colours[:, own] == target
            maps = explained(method, trained(), pixels[shown], target).maps
            found.append(inside(maps, masks[shown, own]) > inside(maps, masks[shown, 1 - own]))
    return float(torch.cat(found).float().mean())


def test_relevance_follows_the_class_and_rollout_does_not() -> None:
    drawings = drawn(60, 2000, spots=2)
    assert own_before_other(BOTH[1], *drawings) >= 0.9
    assert own_before_other(BOTH[0], *drawings) == pytest.approx(0.5)
