from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

from reportgen.classifier.torchvision_operators import ensure_torchvision
from reportgen.errors import NotApplicable
from reportgen.perturbation import imputation
from reportgen.perturbation.controls import smooth_random_maps
from reportgen.perturbation.imputation import NOTHING_KNOWN, TOLERANCE, imputed
from reportgen.perturbation.removal import removal_ranks

Impute = Callable[[Tensor, Tensor], Tensor]

# Residuals of at most 3e-5 leave errors of at most 2e-4 in the holes of these tests.
CLOSE = 3e-4
WEIGHTS = {
    (down, across): 1 / 6 if 0 in (down, across) else 1 / 12
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
}


def noiseless(pixels: Tensor, missing: Tensor) -> Tensor:
    return imputed(pixels, missing, 0, 0)


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def holes(height: int, width: int) -> Tensor:
    """Return compact and scattered holes (8, H, W) of 10 to 90% of the pixels."""
    maps = torch.cat([smooth_random_maps(2, (height, width), 0), picture(2, height, width)])
    ranks = removal_ranks(maps, 0)
    shares = torch.tensor([0.1, 0.5, 0.8, 0.9, 0.2, 0.5, 0.8, 0.9]).mul(height * width).round()
    return (ranks.repeat_interleave(2, dim=0) < shares[:, None]).view(8, height, width)


def solved_directly(pixels: Tensor, missing: Tensor) -> Tensor:
    """Impute picture by picture, equation by equation, with a sparse direct solver."""
    return torch.stack([_direct(pixels, hole) for hole in missing])


def _direct(pixels: Tensor, hole: Tensor) -> Tensor:
    height, width = hole.shape
    sought = {place: index for index, place in enumerate(map(tuple, hole.nonzero().tolist()))}
    own, right = np.zeros(len(sought)), np.zeros((len(sought), len(pixels)))
    entries: list[tuple[float, int, int]] = []
    for (row, column), index in sought.items():
        for (down, across), weight in WEIGHTS.items():
            place = (row + down, column + across)
            if not (0 <= place[0] < height and 0 <= place[1] < width):
                continue
            own[index] += weight
            if place in sought:
                entries.append((-weight, index, sought[place]))
            else:
                right[index] += weight * pixels[:, place[0], place[1]].double().numpy()
    values, rows, columns = zip(*entries, strict=True) if entries else ((), (), ())
    system = coo_matrix((values, (rows, columns)), shape=(len(own), len(own))) + diags(own)
    found = pixels.clone().double()
    found[:, hole] = torch.from_numpy(spsolve(system.tocsc(), right).reshape(right.shape)).T
    return found.float()


def by_the_library(pixels: Tensor, missing: Tensor) -> Tensor:
    ensure_torchvision()
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    with warnings.catch_warnings():
        # The library hands tensors to numpy in a way that numpy is leaving behind.
        warnings.simplefilter("ignore", DeprecationWarning)
        library = NoisyLinearImputer(noise=0)
        return torch.stack([library(pixels, (~hole).float()) for hole in missing])


def assert_solves(impute: Impute, reference: Impute, channels: int = 3) -> None:
    pixels, missing = picture(channels, 23, 30), holes(23, 30)
    torch.testing.assert_close(
        impute(pixels, missing), reference(pixels, missing), atol=CLOSE, rtol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("reference", [solved_directly, by_the_library])
def test_it_solves_what_a_sparse_direct_solver_solves(reference: Impute, channels: int) -> None:
    assert_solves(noiseless, reference, channels)


def without_renormalisation(values: Tensor) -> Tensor:
    # Repeating the border gives the neighbours outside the picture a say.
    flat = values.flatten(0, -3)[:, None]
    wide = torch.nn.functional.pad(flat, (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    return torch.nn.functional.conv2d(wide, kernel.view(1, 1, 3, 3)).view(values.shape)


def four_neighbours(values: Tensor) -> Tensor:
    wide = torch.nn.functional.pad(values, (1, 1, 1, 1))
    across = wide[..., 1:-1, 2:] + wide[..., 1:-1, :-2]
    return (across + wide[..., 2:, 1:-1] + wide[..., :-2, 1:-1]) / 4


@pytest.mark.parametrize("wrong", [without_renormalisation, four_neighbours])
def test_wrong_weights_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Tensor]
) -> None:
    def neighbours(values: Tensor) -> Tensor:
        return wrong(values if values.ndim > 2 else values[None]).view(values.shape)

    monkeypatch.setattr(imputation, "_neighbours", neighbours)
    with pytest.raises(AssertionError):
        assert_solves(noiseless, solved_directly)


def test_stopping_early_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "TOLERANCE", 100 * TOLERANCE)
    with pytest.raises(AssertionError):
        assert_solves(noiseless, solved_directly)


def test_a_constant_picture_stays_constant() -> None:
    pixels = torch.full((3, 20, 31), 0.3)
    torch.testing.assert_close(
        noiseless(pixels, holes(20, 31)), pixels.expand(8, -1, -1, -1), atol=1e-6, rtol=0
    )


def test_a_ramp_is_continued_through_a_hole() -> None:
    ramp = (torch.linspace(0.1, 0.5, 16)[:, None] + torch.linspace(0, 0.4, 24))[None]
    missing = torch.zeros(1, 16, 24, dtype=torch.bool)
    missing[0, 3:12, 5:20] = True
    torch.testing.assert_close(noiseless(ramp, missing)[0], ramp, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("row", "column", "inside"),
    [(2, 2, 1), (0, 2, 4 / 6), (0, 0, 5 / 12)],
    ids=["the middle", "the border", "the corner"],
)
def test_one_missing_pixel_is_the_mean_of_its_neighbours(
    row: int, column: int, inside: float
) -> None:
    pixels = picture(1, 5, 6)
    missing = torch.zeros(1, 5, 6, dtype=torch.bool)
    missing[0, row, column] = True
    expected = 0.0
    for (down, across), weight in WEIGHTS.items():
        if 0 <= row + down < 5 and 0 <= column + across < 6:
            expected += weight * float(pixels[0, row + down, column + across])
    found = noiseless(pixels, missing)[0, 0]
    assert float(found[row, column]) == pytest.approx(expected / inside, abs=1e-6)
    assert torch.equal(found[~missing[0]], pixels[0][~missing[0]])


def test_nothing_is_made_of_nothing_known() -> None:
    pixels = picture(3, 6, 8)
    missing = torch.stack([torch.ones(6, 8), torch.zeros(6, 8)]).bool()
    found = noiseless(pixels, missing)
    assert torch.equal(found[0], torch.full_like(pixels, NOTHING_KNOWN))
    assert torch.equal(found[1], pixels)


def test_one_known_pixel_fills_the_picture() -> None:
    pixels = picture(3, 6, 8)
    missing = torch.ones(1, 6, 8, dtype=torch.bool)
    missing[0, 4, 1] = False
    expected = pixels[:, 4, 1, None, None].expand_as(pixels)
    torch.testing.assert_close(noiseless(pixels, missing)[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 2), (3, 3)])
def test_the_smallest_pictures_are_filled(height: int, width: int) -> None:
    pixels, missing = picture(3, height, width), torch.zeros(1, height, width, dtype=torch.bool)
    missing[0, 0, 0] = True
    found = noiseless(pixels, missing)
    assert found.shape == (1, 3, height, width)
    assert bool(found.isfinite().all())


def test_noise_is_that_of_the_paper_and_clamped() -> None:
    grey, white = torch.full((1, 60, 60), 0.5), torch.ones(1, 60, 60)
    missing = picture(1, 60, 60) < 0.5
    count = int(missing.sum())
    drawn = imputed(grey, missing, 0.01, 0)[0, 0][missing[0]] - 0.5
    assert abs(float(drawn.mean())) < 3 * 0.01 / count**0.5
    assert abs(float(drawn.std()) - 0.01) < 3 * 0.01 / (2 * count) ** 0.5
    assert float(imputed(white, missing, 0.01, 0).max()) == 1
    assert torch.equal(imputed(grey, missing, 0.01, 0)[0, 0][~missing[0]], grey[0][~missing[0]])


def test_noise_depends_on_the_seed_alone_and_on_the_place() -> None:
    pixels, missing = picture(3, 23, 30), holes(23, 30)
    first = imputed(pixels, missing, 0.01, 1)
    assert torch.equal(first, imputed(pixels, missing.clone(), 0.01, 1))
    assert not torch.equal(first, imputed(pixels, missing, 0.01, 2))
    torch.testing.assert_close(imputed(pixels, missing[3:4], 0.01, 1)[0], first[3])


@pytest.mark.parametrize("together", [1, 3 * 23 * 30 * 3, 2**20])
def test_what_is_solved_together_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    pixels, missing = picture(3, 23, 30), holes(23, 30)
    expected = torch.cat([noiseless(pixels, hole[None]) for hole in missing])
    monkeypatch.setattr(imputation, "_VALUES_TOGETHER", {"cpu": together})
    # Sums over a batch are rounded in another order than those over one picture.
    torch.testing.assert_close(noiseless(pixels, missing), expected, atol=1e-5, rtol=0)


def test_picture_and_hole_may_be_flipped_together() -> None:
    pixels, missing = picture(3, 16, 30), holes(16, 30)
    flipped = noiseless(pixels.flip(-1), missing.flip(-1)).flip(-1)
    torch.testing.assert_close(flipped, noiseless(pixels, missing), atol=CLOSE, rtol=0)


def test_inputs_and_the_global_seed_are_left_alone() -> None:
    pixels, missing = picture(3, 9, 8), holes(9, 8)
    before, state = (pixels.clone(), missing.clone()), torch.get_rng_state()
    imputed(pixels, missing, 0.01, 0)
    assert torch.equal(pixels, before[0])
    assert torch.equal(missing, before[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_blocks_speed_it_up_and_it_says_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, missing = picture(1, 64, 64), holes(64, 64)[2:4]
    monkeypatch.setattr(imputation, "_MOST_ITERATIONS", 60)
    noiseless(pixels, missing)
    monkeypatch.setattr(imputation, "_SMALLEST_LEVEL", 64)
    with pytest.raises(NotApplicable, match="residuals above 3e-05 after 60"):
        noiseless(pixels, missing)
