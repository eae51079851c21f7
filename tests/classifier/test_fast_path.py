"""Transformer layers traced in PyTorch's fast path are written out, and stay what they are."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reportgen.classifier.fast_path import write_out
from reportgen.classifier.torchscript import read_torchscript

TOKENS = torch.rand(2, 5, 16, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(3, 7, 16, generator=torch.Generator().manual_seed(1))
FUSED = ("_native_multi_head_attention", "_transformer_encoder_layer_fwd")


class Attended(nn.Module):
    """Self-attention with its weights, whole or averaged over the heads."""

    def __init__(self, average: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.average = average

    def forward(self, tokens: Tensor) -> Tensor:
        mixed, weights = self.attention(tokens, tokens, tokens, average_attn_weights=self.average)
        return torch.cat([mixed.flatten(1), weights.flatten(1)], 1)


class Classified(nn.Module):
    """Patches of a picture, a transformer layer, and three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.layer(self.patches(batch).flatten(2).transpose(1, 2)).mean(1))


def traced(network: nn.Module, example: Tensor, path: Path) -> torch.jit.ScriptModule:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, example, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]
        script: torch.jit.ScriptModule = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return script


def kinds(script: torch.jit.ScriptModule) -> str:
    return str(script.inlined_graph)


def slowly(network: nn.Module, tokens: Tensor) -> Tensor:
    """Return the gradient by tokens that the network itself gives, outside its fast path."""
    given = tokens.clone().requires_grad_()
    network(given).square().sum().backward()
    assert given.grad is not None
    return given.grad


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_written_out_gives_the_same_and_has_its_gradient(
    activation: str, norm_first: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(
        16, 2, 32, 0.0, activation=activation, norm_first=norm_first, batch_first=True
    ).eval()
    script = traced(network, TOKENS, tmp_path / "m.pt")
    assert write_out(script)
    assert not any(name in kinds(script) for name in FUSED)
    with torch.no_grad():
        assert torch.allclose(script(OTHERS), network(OTHERS), atol=1e-5)
    assert torch.allclose(slowly(script, OTHERS), slowly(network, OTHERS), atol=1e-4)


@pytest.mark.parametrize("average", [False, True])
def test_attention_written_out_gives_the_same_and_its_weights(
    average: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Attended(average).eval()
    script = traced(network, TOKENS, tmp_path / "m.pt")
    assert write_out(script)
    assert not any(name in kinds(script) for name in FUSED)
    assert torch.allclose(script(TOKENS), network(TOKENS), atol=1e-5)
    assert torch.allclose(slowly(script, TOKENS), slowly(network, TOKENS), atol=1e-4)


def test_what_has_no_fused_layers_stays_as_it_is(tmp_path: Path) -> None:
    script = traced(nn.Sequential(nn.Linear(16, 3)), TOKENS, tmp_path / "m.pt")
    before = str(script.graph)
    assert not write_out(script)
    assert str(script.graph) == before


def test_an_archive_with_fused_layers_is_opened_with_a_note(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, batch = Classified().eval(), torch.rand(2, 3, 8, 8)
    assert FUSED[1] in kinds(traced(network, batch, tmp_path / "m.pt"))
    opened = read_torchscript(tmp_path / "m.pt")
    assert "written out" in opened.notes[0]
    assert torch.allclose(opened.network(batch), network(batch), atol=1e-5)
    assert slowly(opened.network, batch).any()
