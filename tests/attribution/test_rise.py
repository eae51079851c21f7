"""RISE: the paper's map, its masks, closed forms, and the error of its sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gradient_methods import difference
from scipy.stats import spearmanr
from skimage.transform import resize
from torch import Tensor, nn
from toys import (
    Constant,
    FunctionalRelu,
    Linear,
    ShortOfMemory,
    classified,
    pictures,
    request,
    seeded,
)

from reportgen.attribution import METHODS, Explained
from reportgen.attribution.rise import Masks, random_masks
from reportgen.config import Config

METHOD = "rise"
SHAPE = (3, 16, 16)


def few(masks: int, cells: int = 4, share: float = 0.5) -> Config:
    return Config(rise_masks=masks, rise_cells=cells, rise_share=share)


def explained(
    network: nn.Module, pixels: Tensor, config: Config, head: str = "softmax"
) -> Explained:
    with classified(network, tuple(pixels.shape[1:]), head) as classifier:
        return METHODS[METHOD].explain(request(classifier, pixels, 0, config))


def drawn(config: Config, size: tuple[int, int] = (16, 16), seed: int = 0) -> Masks:
    return random_masks(config.rise_masks, config.rise_cells, config.rise_share, size, seed)


def all_of(masks: Masks) -> Tensor:
    return masks.rows(0, len(masks))


def papers(network: nn.Module, pixels: Tensor, masks: Tensor, share: float) -> Tensor:
    """Return the paper's map (H, W) of a picture: the mean of p * mask, over the share shown.

    The fill is black, which is the toys' mean colour.
    """
    total = torch.zeros(pixels.shape[1:], dtype=torch.float64)
    for mask in masks:
        total += network((mask * pixels)[None]).softmax(1)[0, 0].detach() * mask
    return total / len(masks) / share


def mean_probability(network: nn.Module, pixels: Tensor, masks: Tensor) -> Tensor:
    return network(masks[:, None] * pixels).softmax(1)[:, 0].detach().mean()


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 20)])
def test_the_map_is_the_papers_less_what_a_constant_model_gets(
    shape: tuple[int, int, int], share: float
) -> None:
    network = seeded(lambda: FunctionalRelu(shape[0])).double()
    pixels, config = pictures(1, *shape), few(60, share=share)
    ours = explained(network, pixels, config).maps[0]
    masks = all_of(drawn(config, shape[1:])).double()
    theirs = papers(network, pixels[0].double(), masks, share)
    nothing = mean_probability(network, pixels[0].double(), masks) * masks.mean(0) / share
    expected = (theirs - nothing).float()
    scale = float(expected.abs().max())
    assert difference(ours, expected) < 1e-5 * scale
    assert difference(ours, expected * (1 + 4e-5)) > 1e-5 * scale
    assert difference(ours, expected.flip(1)) > 0.1 * scale
    assert difference(ours, theirs.float()) > scale


def test_with_many_masks_pixels_are_ranked_as_in_the_paper() -> None:
    """What is taken off tends to a constant; with few masks it is mere uneven coverage."""
    weights = torch.linspace(-6, 8, 256).reshape(16, 16).expand(SHAPE) / 768
    network, pixels = Linear(weights), torch.ones(1, *SHAPE)
    agreements = []
    for count in (100, 4000):
        ours = explained(network, pixels, few(count)).maps[0]
        theirs = papers(network, pixels[0], all_of(drawn(few(count))), 0.5)
        agreements.append(float(spearmanr(ours.flatten(), theirs.flatten())[0]))
    assert agreements[0] < agreements[1]
    assert agreements[1] > 0.9


def test_the_masks_are_enlarged_as_in_the_paper() -> None:
    """Beyond the outer cells' centres the nearest cell goes on, where the authors mirror."""
    config = few(12, cells=3, share=0.4)
    masks = drawn(config, (14, 20))
    assert masks.cell == (5, 7)
    found = all_of(masks)
    for index, (down, across) in enumerate(masks.shifts.tolist()):
        large = resize(
            masks.grids[index].numpy(), (20, 28), order=1, mode="edge", anti_aliasing=False
        )
        expected = torch.from_numpy(large[down : down + 14, across : across + 20]).float()
        assert difference(found[index], expected) < 1e-6
        other = torch.from_numpy(large[: expected.shape[0], : expected.shape[1]]).float()
        assert (down, across) == (0, 0) or difference(found[index], other) > 0.01


def test_masks_are_kept_whatever_the_batch_and_the_count() -> None:
    many = all_of(drawn(few(50)))
    assert torch.equal(all_of(drawn(few(20))), many[:20])
    masks = drawn(few(50))
    parts = [masks.rows(start, min(start + 7, 50)) for start in range(0, 50, 7)]
    assert torch.equal(torch.cat(parts), many)
    assert not torch.equal(all_of(drawn(few(50), seed=1)), many)


@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("size", [(16, 16), (9, 30), (2, 3)])
def test_masks_show_the_share_asked_for_everywhere(share: float, size: tuple[int, int]) -> None:
    config = few(3000, cells=5, share=share)
    masks = drawn(config, size)
    found = all_of(masks)
    assert found.shape == (3000, *size)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert difference(found.mean(0), torch.full(size, share)) < 0.04
    for side in range(2):
        assert set(masks.shifts[:, side].tolist()) == set(range(masks.cell[side]))


def test_one_is_worth_its_covariance() -> None:
    """ONE over four pixels: cell and pixel are alike, and neighbours share a blended cell.

    The enlarged grid of 2 x 2 cells has 3 x 3 places, of which the first is one cell, the next the
    mean of two; the score is the first, whose variance is 1/4, over a share of 1/2.
    """
    shape = (1, 2, 2)
    weights = torch.zeros(shape)
    weights[0, 0, 0] = 1
    found = explained(Linear(weights), torch.ones(1, *shape), few(6000, 2), "probabilities")
    assert difference(found.maps[0], torch.tensor([[1 / 2, 1 / 4], [1 / 4, 1 / 8]])) < 0.02


def test_what_lowers_the_probability_is_negative() -> None:
    weights = torch.zeros(SHAPE)
    weights[:, :8] = 1 / 384
    weights[:, 8:] = -1 / 384
    found = explained(Linear(40 * weights), torch.ones(1, *SHAPE), few(800)).maps[0]
    assert float(found[:6].min()) > 0
    assert float(found[10:].max()) < 0


def test_the_sampling_error_is_that_of_the_mean() -> None:
    network, pixels, config = seeded(FunctionalRelu).double(), pictures(1), few(80)
    (check,) = explained(network, pixels, config).checks
    masks = all_of(drawn(config)).double()
    scores = network(masks[:, None] * pixels[0].double()).softmax(1)[:, 0].detach()
    terms = (scores - scores.mean())[:, None, None] * (masks - 0.5) / 0.5
    expected = float((terms.var(0) / 80).sum().sqrt() / terms.mean(0).norm())
    assert check.value == pytest.approx(expected, rel=1e-3)
    assert check.metric == "sampling_error"
    more = explained(network, pixels, few(2000)).checks[0]
    assert more.value is not None
    assert more.value < 0.5 * expected


def test_the_error_is_what_other_seeds_show() -> None:
    """The estimated error is that of maps made with other seeds, within a third."""
    network, pixels, config = seeded(FunctionalRelu).double(), pictures(1), few(150)
    with classified(network, SHAPE) as classifier:
        asked = request(classifier, pixels, 0, config)
        found = [METHODS[METHOD].explain(replace(asked, seed=seed)) for seed in range(12)]
    maps = torch.stack([each.maps[0] for each in found]).double()
    spread = float(maps.var(0).sum().sqrt())
    told = [float(e.checks[0].value or 0) * float(e.maps[0].double().norm()) for e in found]
    assert float(np.mean(told)) == pytest.approx(spread, rel=1 / 3)


def test_a_constant_model_has_a_zero_map_and_no_error() -> None:
    found = explained(seeded(Constant), pictures(2), few(37))
    assert not bool(found.maps.any())
    (check,) = found.checks
    assert (check.value, check.note) == (None, "the map is zero everywhere")


def test_out_of_memory_changes_nothing_and_passes_are_counted() -> None:
    network = ShortOfMemory(seeded(FunctionalRelu).double(), most=32)
    with classified(network, SHAPE) as classifier:
        asked = request(classifier, pictures(2), 0, few(50))
        found = METHODS[METHOD].explain(asked).maps
        assert classifier.evaluator.counter.forward == 2 * 50
        network.most = 3
        again = METHODS[METHOD].explain(asked).maps
    assert difference(found, again) < 1e-5 * float(found.abs().max())
