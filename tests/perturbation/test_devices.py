"""A GPU sees what the CPU sees: whatever is drawn is equal to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reportgen.perturbation.controls import CONTROLS, control_maps
from reportgen.perturbation.corruption import CORRUPTIONS, corrupted, small_noise
from reportgen.perturbation.geometry import rotated
from reportgen.perturbation.imputation import imputed
from reportgen.perturbation.removal import (
    BASELINES,
    baseline,
    masked,
    removal_ranks,
    removed_rows,
    segment_mean,
)

MakePicture = Callable[..., Tensor]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

MEAN = (0.5, 0.4, 0.3)
SEGMENTS = torch.arange(30 * 40).view(30, 40) // 100
KEEP = torch.arange(36).view(3, 12) % 2 == 0
ROWS, COUNTS = torch.tensor([0, 2, 2, 1]), torch.tensor([0, 500, 1200, 7])


def _ranks(pixels: Tensor) -> Tensor:
    return removal_ranks((pixels * 4).round(), 0)


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    **{f"baseline {kind}": lambda x, kind=kind: baseline(x, kind, MEAN, 0) for kind in BASELINES},
    **{f"noise {kind}": lambda x, kind=kind: corrupted(x, kind, 3, 2, 0) for kind in CORRUPTIONS},
    **{f"control {key}": lambda x, key=key: control_maps(key, x, 2, 0) for key in CONTROLS},
    "small noise": lambda x: small_noise(x, 0.02, 2, 0),
    "ranks": _ranks,
    "rows": lambda x: removed_rows(x, 1 - x, _ranks(x), ROWS.to(x.device), COUNTS.to(x.device)),
    "masked": lambda x: masked(x, 1 - x, SEGMENTS.to(x.device), KEEP.to(x.device)),
    "segment mean": lambda x: segment_mean(x, SEGMENTS.to(x.device)),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_are_equal_on_the_gpu(make_picture: MakePicture, name: str) -> None:
    pixels = make_picture(3, 30, 40)
    there = EXACT[name](pixels.cuda())
    assert there.is_cuda
    assert torch.equal(there.cpu(), EXACT[name](pixels))


def test_imputation_is_close_on_the_gpu(make_picture: MakePicture) -> None:
    pixels = make_picture(3, 30, 40)
    missing = (_ranks(pixels[None, 0]) < 600).view(1, 30, 40)
    there = imputed(pixels.cuda(), missing.cuda(), 0.0, 0).cpu()
    assert float((there - imputed(pixels, missing, 0.0, 0)).abs().max()) < 1e-3


@pytest.mark.parametrize("tf32", [False, True])
def test_rotation_is_close_on_the_gpu(
    make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    pixels, angles = make_picture(3, 30, 40), torch.tensor([0.0, 10.0, -100.0])
    fill = torch.tensor(MEAN)
    there = rotated(pixels.cuda(), angles.cuda(), fill.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), rotated(pixels, angles, fill), atol=1e-5, rtol=0)
