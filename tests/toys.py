"""Networks so small that their explanations are known by hand, and what makes classifiers of them.

Unless stated otherwise they take pictures of any size and return scores (n, classes).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reportgen.attribution.base import Request, layer_finder
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.metadata import Hints, Known
from reportgen.classifier.opened import Opened
from reportgen.config import Config

Shape = tuple[int, int, int]
CLASSES = 3


class Linear(nn.Module):
    """LIN: the sum of weights (C, H, W) times pixels, s; the outputs are s and 1 - s."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        total = (x * self.weights).sum((1, 2, 3))
        return torch.stack([total, 1 - total], dim=1)


def one(shape: Shape, row: int, column: int) -> Linear:
    """ONE: the first channel of one pixel."""
    weights = torch.zeros(shape)
    weights[0, row, column] = 1
    return Linear(weights)


def quadrant(shape: Shape) -> Linear:
    """QUAD: the mean of the top left quadrant."""
    weights = torch.zeros(shape)
    weights[:, : shape[1] // 2, : shape[2] // 2] = 1
    return Linear(weights / weights.sum())


class Pointwise(nn.Module):
    """The sum of a function over all pixels; the outputs are that and its negative."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        total = self.function(x).sum((1, 2, 3))
        return torch.stack([total, -total], dim=1)


class Fixed(nn.Module):
    """The same outputs for every picture, whatever it shows."""

    def __init__(self, outputs: object) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> object:
        if isinstance(self.outputs, Tensor):
            return self.outputs.expand(len(x), *self.outputs.shape)
        return self.outputs


class _ConvNet(nn.Module):
    """Two strided convolutions, the mean over places, and a linear layer."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(4))
        self.conv = nn.Conv2d(4, 6, 3, 2, 1)
        self.fc = nn.Linear(6, CLASSES)
        self.relu = nn.ReLU()


class FunctionalRelu(_ConvNet):
    """The last feature map is made by a function, outside all modules."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(self.features(x)))
        return self.fc(x.mean((2, 3)))


class InPlaceRelu(_ConvNet):
    """The last feature map overwrites the convolution's output."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(self.features(x)), inplace=True)
        return self.fc(x.mean((2, 3)))


class ReusedRelu(_ConvNet):
    """One ReLU module serves twice; its last use makes the last feature map."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.relu(self.features(x))))
        return self.fc(x.mean((2, 3)))


class Viewing(_ConvNet):
    """Flattens with ``view``, as tutorials do, which only plain memory order allows."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(self.features(x)))
        return self.fc(x.view(x.shape[0], 6, -1).mean(2))


class Constant(_ConvNet):
    """A convolutional network whose last layer ignores its input."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(self.features(x)))
        return self.fc(x.mean((2, 3)))


class ClassMaps(_ConvNet):
    """Fully convolutional: the last map holds the class scores, place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(F.relu(self.conv(self.features(x)))).mean((2, 3))


class ChannelsLast(nn.Module):
    """Features in the layout (n, height, width, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 5)
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.norm(self.stem(x).permute(0, 2, 3, 1))).relu()
        return self.fc(x.mean((1, 2)))


class Block(nn.Module):
    """Tokens exchange what they hold by attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(dim=-1)
        return x + weights @ self.value(x)


class TinyViT(nn.Module):
    """Patches of 4 x 4 pixels and a class token, which alone is read after two blocks.

    Its width is no number of tokens, so that transposed tokens are no look-alikes.
    """

    def __init__(self, width: int = 22) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1)
        return self.fc(self.blocks(tokens)[:, 0])


class OnlyBatchesOf(nn.Module):
    """Refuses every batch but those of one size, as a program exported without a dynamic size."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != self.size:
            raise RuntimeError(f"a batch of {len(x)} where {self.size} was expected")
        return self.network(x)


class ShortOfMemory(nn.Module):
    """Runs out of memory above ``most`` pictures; ``sizes`` are the batches it was given."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network = network
        self.most = most
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("tried to allocate more than there is")
        return self.network(x)


class Normalised(nn.Module):
    """Convolutions followed by batch normalisation, as in most convolutional networks."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(6, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                # In a trained network none of these is 0 or 1.
                for tensor, low, high in (
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.1, 0.5),
                    (module.weight.data, 0.5, 2.0),
                    (module.bias.data, -0.5, 0.5),
                ):
                    assert tensor is not None
                    tensor.uniform_(low, high)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return scores


class StandardisedWeights(nn.Module):
    """A convolution whose weights a batch normalisation without statistics standardises."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.conv.weight.reshape(1, CLASSES, -1)
        weight = torch.batch_norm(rows, None, None, None, None, True, 0, 1e-5, False)
        return F.conv2d(x, weight.reshape_as(self.conv.weight), self.conv.bias).relu().mean((2, 3))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network in eval mode with weights of this seed; equal names get equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


def pictures(count: int, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    """Return noisy pictures (count, channels, height, width) in [0, 1], each brighter somewhere."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(count, channels, height, width, generator=generator)
    slope = torch.linspace(0.2, 1, width) * torch.linspace(1, 0.5, height)[:, None]
    return noise * slope


def as_opened(network: nn.Module, fixed_batch: int | None = None) -> Opened:
    """Return a network as if it had just been opened."""
    return Opened(network, "toy", "module", "toy", fixed_batch=fixed_batch)


def hints(shape: Shape, head: str | None = None, labels: tuple[str, ...] | None = None) -> Hints:
    """Return what a user says of a toy that takes pixels (C, H, W) as they are."""
    return Hints(
        labels=None if labels is None else Known(labels, "option"),
        head=None if head is None else Known(head, "option"),
        channels=Known(shape[0], "option"),
        crop=Known(shape[1:], "option"),
        mean=Known((0.0,) * shape[0], "option"),
        std=Known((1.0,) * shape[0], "option"),
    )


@contextmanager
def classified(
    network: nn.Module,
    shape: Shape,
    head: str | None = "softmax",
    fixed_batch: int | None = None,
    batch_size: int = 32,
    config: Config | None = None,
) -> Iterator[Classifier]:
    """Make a classifier of a toy for pixels of ``shape``, on the CPU."""
    config = config or Config(batch_size=batch_size, device="cpu")
    with classifier_from(as_opened(network, fixed_batch), hints(shape, head), config) as ready:
        yield ready


def squares(height: int, width: int, side: int = 4) -> np.ndarray:
    """Return segments (height, width): squares of ``side`` pixels, numbered from 0."""
    rows, columns = np.mgrid[0:height, 0:width] // side
    return (rows * -(-width // side) + columns).astype(np.int64)


def request(
    classifier: Classifier, pixels: Tensor, target: int = 0, config: Config | None = None
) -> Request:
    """Return a request over squares of 4 x 4 pixels."""
    segments = squares(*pixels.shape[-2:])
    config = config or Config()
    layer = layer_finder(classifier, pixels[0], target, config.layer)
    return Request(classifier, pixels, target, config, 0, segments, layer)


def traced(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network as a TorchScript trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(network, torch.rand(1, *shape))


def scripted(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network as a TorchScript script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(network)


def frozen(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network as a TorchScript trace that was frozen before it was saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(torch.jit.trace(network, torch.rand(1, *shape)))


def exported(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network as an exported graph that takes any batch size."""
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (torch.rand(2, *shape),)
    module = torch.export.export(network, example, dynamic_shapes=({0: batch},)).module(
        check_guards=False
    )
    return torch.fx.GraphModule(module, module.graph, "ExportedProgram")


def symbolic(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network as a graph that calls its modules."""
    return torch.fx.symbolic_trace(network)


def eager(network: nn.Module, shape: Shape) -> nn.Module:
    """Return the network itself."""
    return network


FORMATS = {f.__name__: f for f in (eager, traced, scripted, frozen, exported, symbolic)}
