"""Networks that users might bring: the architectures of the weights in the assets, and a small one.

Tests name them as ``factories:resnet20`` and the like.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CIFAR_CLASSES = 10


class SmallNet(nn.Module):
    """One convolution, batch normalisation and a linear head, for pictures of any size."""

    def __init__(self, num_classes: int = 5, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut drops every second pixel and adds empty channels."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.added = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.added, self.added))
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + shortcut)


class CifarResNet(nn.Module):
    """The CIFAR residual network of He et al. (2016): three stages of ``blocks`` blocks."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, CIFAR_CLASSES)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(channels_in, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class PatchEmbedding(nn.Module):
    """Each patch of 4x4 pixels as one token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class CifarViT(nn.Module):
    """A vision transformer for 32x32 pictures: 64 tokens and a class token, width 128, depth 6."""

    def __init__(self) -> None:
        super().__init__()
        width = 128
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 65, width))
        self.patch_embed = PatchEmbedding(width)
        layer = nn.TransformerEncoderLayer(width, 8, 256, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, 6)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CIFAR_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)
        tokens = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), patches), dim=1)
        return self.mlp_head(self.transformer(tokens + self.pos_embed)[:, 0])


class MnistCNN(nn.Module):
    """Two convolutions and two linear layers, for 28x28 pictures of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def small_net(num_classes: int = 5) -> SmallNet:
    return SmallNet(num_classes)


def small_net_of(num_classes: int) -> SmallNet:
    return SmallNet(num_classes)


def resnet20() -> CifarResNet:
    return CifarResNet(3)


def resnet56() -> CifarResNet:
    return CifarResNet(9)


def vit_cifar10() -> CifarViT:
    return CifarViT()


def mnist_cnn() -> MnistCNN:
    return MnistCNN()


def densenet_bc100() -> nn.Module:
    """Return torchvision's DenseNet in the CIFAR form: a 3x3 stem that keeps the size."""
    from torchvision.models import DenseNet

    network = DenseNet(12, (16, 16, 16), 24, num_classes=CIFAR_CLASSES)
    network.features.conv0 = nn.Conv2d(3, 24, 3, 1, 1, bias=False)
    network.features.pool0 = nn.Identity()
    return network


def wrapped(num_classes: int = 5) -> nn.Module:
    """Return a network all of whose tensors are named ``model.`` for a reason of its own."""
    return nn.Sequential(OrderedDict(model=SmallNet(num_classes)))


def wants_more(width: int) -> SmallNet:
    return SmallNet(width)


def breaks() -> SmallNet:
    raise ValueError("no such width.")


def returns_text() -> str:
    return "a network"


NOT_CALLABLE = 3
