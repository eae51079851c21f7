"""A small convolutional classifier whose last feature map is still 16 x 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return torch.relu(self.norm(self.conv(maps)))


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; keeps the shape (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Add to `maps` what the two convolutions find in them."""
        return torch.relu(maps + self.norm(self.second(self.first(maps))))


class SignNet(nn.Module):
    """About 0.32 million weights; a cell of its last map sees 79 x 79 pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(3, 32, 7, stride=4),
            ConvBlock(32, 64, 3, stride=2),
            ResidualBlock(64),
            ConvBlock(64, 128, 3),
            ConvBlock(128, 128, 3),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures (N, 3, 128, 128) to logits (N, classes)."""
        maps: Tensor = self.features(pictures)
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits
