"""A vision transformer whose attention is known: computed in any of four ways, read in any of four.

In the form "kept" it keeps its matrices, so that tests can look at what others find.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import CLASSES, FunctionalRelu, seeded

FORMS = ("explicit", "fused", "multi-head", "multi-head with weights")
READINGS = ("class", "mean", "distilled", "both")


class AttendingBlock(nn.Module):
    """Attention with two heads, and a layer behind it."""

    def __init__(self, width: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)

    def attention(self, x: Tensor) -> Tensor:
        if self.form.startswith("multi-head"):
            return self.multi_head(x)
        heads = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        if self.form == "fused":
            found = F.scaled_dot_product_attention(query, key, value)
        else:
            matrix = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
            if self.form == "kept":
                self.kept = matrix
            found = matrix @ value
        return self.out(found.transpose(1, 2).flatten(2))

    def multi_head(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        found, _ = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], 2, self.qkv.weight, self.qkv.bias, None, None, False, 0.0,
            self.out.weight, self.out.bias, training=False,
            need_weights=self.form == "multi-head with weights",
        )  # fmt: skip
        return found.transpose(0, 1)


class AttendingViT(nn.Module):
    """Patches of 4 x 4 pixels, a class token where one is read, and further tokens."""

    def __init__(
        self,
        form: str = "explicit",
        reading: str = "class",
        registers: int = 0,
        channels: int = 3,
        depth: int = 3,
    ) -> None:
        super().__init__()
        width = 12
        self.reading = reading
        self.prefix = registers + {"class": 1, "mean": 0, "distilled": 2, "both": 1}[reading]
        self.patches = nn.Conv2d(channels, width, 4, 4)
        self.tokens = nn.Parameter(torch.randn(1, self.prefix, width) * 0.2)
        self.blocks = nn.Sequential(*(AttendingBlock(width, form) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x - 0.5).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.tokens.expand(x.shape[0], -1, -1), patches], dim=1)
        tokens = self.norm(self.blocks(tokens))
        return self.fc(self.read(tokens))

    def read(self, tokens: Tensor) -> Tensor:
        mean = tokens[:, self.prefix :].mean(1)
        if self.reading == "mean":
            return mean
        if self.reading == "distilled":
            return tokens[:, :2].mean(1)
        return tokens[:, 0] if self.reading == "class" else tokens[:, 0] + mean

    def matrices(self) -> list[Tensor]:
        """Return what the blocks made in the last run, in the form "kept"."""
        return [block.kept for block in self.blocks]


def explained_by(method: str, channels: int = 3) -> nn.Module:
    """Return a small network that the method can explain."""
    if method.startswith("attention"):
        return seeded(lambda: AttendingViT(channels=channels))
    return seeded(lambda: FunctionalRelu(channels))
