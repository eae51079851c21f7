"""What the methods that follow attention share: from matrices, block by block, to a map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from reportgen.attribution.base import Explained, Request
from reportgen.classifier.attention import Attention, attention_of
from reportgen.records import Card, Measurement

CHECK = (
    "share of what the method gives to all tokens that falls on those without a place, such as the "
    "class token, and so is not on the map"
)

Follow = Callable[[Attention], Tensor]


def followed(request: Request, card: Card, follow: Follow) -> Explained:
    """Return the maps of what ``follow`` gives each token (n, tokens), enlarged to the pictures.

    Raises NotApplicable where the network's attention does not join all places of the picture.
    """
    parts = _in_batches(request, follow)
    attention, shares = parts[0]
    grid = attention.grid
    places = torch.cat([share[:, grid.prefix :] for _, share in parts])
    cells = places.reshape(-1, 1, grid.height, grid.width)
    size = request.pixels.shape[-2:]
    return Explained(
        maps=interpolate(cells, size, mode="bilinear", align_corners=False)[:, 0],
        signed=False,
        resolution=f"{grid.height}x{grid.width} patches",
        settings={
            "blocks": len(attention.matrices),
            "heads": attention.matrices[0].shape[1],
            "tokens without a place": grid.prefix,
            "read behind the last block": _read(attention.read[0], grid.prefix),
        },
        checks=(_placeless_share(card, shares[0], grid.prefix),),
    )


def _in_batches(request: Request, follow: Follow) -> list[tuple[Attention, Tensor]]:
    """Return the attention and what ``follow`` makes of it, in batches that fit into memory."""
    evaluator = request.classifier.evaluator

    def run(pixels: Tensor) -> tuple[Attention, Tensor]:
        attention = attention_of(evaluator, pixels, request.target)
        return attention, follow(attention)

    def batches(size: int) -> list[tuple[Attention, Tensor]]:
        parts = torch.split(request.pixels, min(size, evaluator.fixed_batch or size))
        return [run(part) for part in parts]

    return evaluator.within_memory(batches)


def _read(read: Tensor, prefix: int) -> str:
    kinds = {"the class token": prefix > 0 and bool(read[0] > 0)}
    kinds["other tokens without a place"] = bool((read[1:prefix] > 0).any())
    kinds["patches"] = bool((read[prefix:] > 0).any())
    return " and ".join(kind for kind, found in kinds.items() if found)


def _placeless_share(card: Card, shares: Tensor, prefix: int) -> Measurement:
    total = float(shares.sum())
    return Measurement(
        metric="placeless_share",
        subject=card.key,
        value=float(shares[:prefix].sum()) / total if total > 0 else None,
        range=(0, 1),
        settings={"of": "what the method gives to all tokens"},
        note="" if total > 0 else "the method gives nothing to any token",
    )
