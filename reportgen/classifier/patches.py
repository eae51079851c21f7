"""Networks that take patches cut out beforehand (NaFlex), as networks that take pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CutPatches(nn.Module):
    """A SigLIP 2 classifier of transformers (NaFlex; Tschannen et al. 2025), from whole pictures.

    Its image processor cuts a picture into patches, row by row, and each patch into pixels with
    their channels last. Here nothing is padded, so the network is shown no mask.
    """

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        self._side = side

    def forward(self, pixels: Tensor) -> Any:
        """Return what the network says of ``pixels`` (N, C, H, W), normalised.

        Raises ValueError where a patch does not go into H and W a whole number of times.
        """
        batch, channels, height, width = pixels.shape
        side = self._side
        if height % side or width % side:
            raise ValueError(f"{width}x{height} pixels are not made of patches of {side}x{side}")
        rows, columns = height // side, width // side
        cut = pixels.reshape(batch, channels, rows, side, columns, side)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
        # One grid for all: positions are resized once, not for one picture after another.
        grid = torch.tensor([[rows, columns]])
        return self.network(patches, spatial_shapes=grid)


def joined(patches: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """Return the picture (C, H, W) whose first ``rows`` x ``columns`` of ``patches`` were cut out.

    ``patches`` is (patches, pixels), as the image processor of SigLIP 2 gives it; behind those of
    the picture it is padded.
    """
    cut = patches[: rows * columns].reshape(rows, columns, side, side, -1)
    return cut.permute(4, 0, 2, 1, 3).reshape(-1, rows * side, columns * side)
