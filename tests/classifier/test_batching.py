"""The batch that a trace keeps is found, and a network that answers at random is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories import SmallNet
from torch import Tensor, nn
from torch.nn import functional as F
from toys import TinyViT, hints, seeded

from reportgen.classifier.classifier import classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.torchscript import read_torchscript
from reportgen.config import Config
from reportgen.errors import ModelError

SHAPE = (3, 16, 16)
PIXELS = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
CPU = Config(device="cpu")


class Reshaped(nn.Module):
    """Writes the number of pictures into a shape when it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).view(int(x.shape[0]), 5)


class Mixed(nn.Module):
    """Gives all pictures the scores of the first, once it is traced with one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.cat([self.network(x[i : i + 1]) for i in range(x.shape[0])])
        return scores + 0 * self.network(x)


def trace(module: nn.Module, count: int, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.rand(count, *SHAPE), check_trace=False).save(str(path))
    return path


@pytest.mark.parametrize(
    ("make", "count", "fixed"),
    [
        (SmallNet, 1, None),
        (lambda: TinyViT(), 3, None),
        (Reshaped, 1, 1),
        (Reshaped, 4, 4),
        (Mixed, 1, 1),
    ],
)
def test_the_only_batch_of_a_trace_is_found(
    make: Callable[[], nn.Module], count: int, fixed: int | None, tmp_path: Path
) -> None:
    opened = open_model(trace(seeded(make), count, tmp_path / "m.pt"))
    with classifier_from(opened, hints(SHAPE, "softmax"), CPU) as classifier:
        assert classifier.evaluator.fixed_batch == fixed
        noted = any(f"traced with a batch of {fixed}" in n for n in classifier.record.notes)
        assert noted == (fixed is not None)
        found = classifier.evaluator.raw(PIXELS)
    assert torch.allclose(found, seeded(make)(PIXELS), atol=1e-5)


class Noisy(nn.Module):
    """Drops features in every mode, which is a common mistake."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(F.dropout(x, 0.5))


@pytest.mark.parametrize("form", ["module", "trace"])
def test_a_network_that_answers_at_random_is_refused(form: str, tmp_path: Path) -> None:
    module = seeded(Noisy)
    source = module if form == "module" else trace(module, 1, tmp_path / "m.pt")
    if form == "trace":
        with pytest.raises(ModelError, match="traced in training mode"):
            open_model(source)
        return
    with (
        pytest.raises(ModelError, match=r"other scores for the same picture .*model\.eval\(\)"),
        classifier_from(open_model(source), hints(SHAPE, "softmax"), CPU),
    ):
        pass


class Jittered(nn.Module):
    """Adds noise by an operator that has no mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + torch.rand_like(x))


def test_a_trace_that_answers_at_random_is_refused(tmp_path: Path) -> None:
    opened = open_model(trace(seeded(Jittered), 2, tmp_path / "m.pt"))
    with (
        pytest.raises(ModelError, match="other scores for the same picture"),
        classifier_from(opened, hints(SHAPE, "softmax"), CPU),
    ):
        pass


@pytest.mark.parametrize("part", ["norm", "dropout"])
def test_a_trace_in_training_mode_is_refused(part: str, tmp_path: Path) -> None:
    module = seeded(SmallNet)
    assert read_torchscript(trace(module, 2, tmp_path / "m.pt"))
    module.get_submodule(part).train()
    path = trace(module, 2, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"m\.pt' was traced in training mode .*model\.eval\(\)"):
        read_torchscript(path)
