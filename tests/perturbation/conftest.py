"""Pictures to perturb."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

MakePicture = Callable[..., Tensor]


@pytest.fixture(scope="session")
def make_picture() -> MakePicture:
    """Return a maker of pictures (C, H, W) uniform in [0, 1]."""

    def make(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator, dtype=dtype)

    return make
