"""The attention of a transformer: its matrices, and the gradients of a class score by them.

Each block makes, for each head, a square matrix of how much each token takes from each: a softmax
over its last axis. Tensor functions are watched, not modules by their names. A fused function,
which never makes that matrix, is replaced by its explicit form, with the same output to within
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reportgen.classifier.evaluator import Evaluator
from reportgen.classifier.grids import Grid, find_grids
from reportgen.classifier.script_taps import ScriptTaps, Shape
from reportgen.errors import NotApplicable

_SOFTMAX = {"softmax", "_softmax", "_safe_softmax"}
_FUSED = "scaled_dot_product_attention"
# Rows of bfloat16 add up to 1 no more closely.
_ROUNDING = 0.05
# PyTorch's function hides what it calls while it is watched itself; the same code, unwatched.
_MULTI_HEAD = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)


@dataclass(frozen=True)
class Attention:
    """The attention of n pictures, block by block from the picture to the output.

    ``matrices`` and the class score's ``gradients`` by them are (n, heads, tokens, tokens) float32;
    row i of a matrix is what token i takes from each token, and adds up to 1. ``grid`` is how the
    tokens lie over the picture. ``read`` (n, tokens) is how much of each token the score reads
    behind the last block, and adds up to 1: the tokens without a place (class, distillation and
    register tokens) that the score depends on count alike, the patches that it depends on count
    alike, and where it depends on both, each kind counts half.
    """

    matrices: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    grid: Grid
    read: Tensor


def attention_of(evaluator: Evaluator, pixels: Tensor, target: int) -> Attention:
    """Return the attention of pixels (n, C, H, W), with gradients by the target's score.

    One pass forward and one back, in one batch. Raises NotApplicable where the network makes no
    attention matrices that receive a gradient, or none that join all places of the picture.
    """
    watched = _Watched(evaluator.network)
    matrices, (gradients,) = evaluator.gradients(pixels, watched, [target])
    received = [gradient for gradient in gradients if gradient is not None]
    if not received or len(received) < len(gradients):
        raise NotApplicable(
            "the network makes no attention matrices, or some that receive no gradient"
        )
    grid = _grid(watched, (pixels.shape[-2], pixels.shape[-1]))
    blocks = tuple(map(_with_heads, received))
    found = tuple(map(_with_heads, matrices))
    return Attention(found, blocks, grid, _read(blocks[-1], grid.prefix))


class _Watched:
    """Runs a network and returns its output and attention matrices, pictures first.

    ``matrices`` are the shapes of the matrices of the last run, and ``shapes`` those of the other
    tensors seen in it that have one entry a picture.
    """

    def __init__(self, network: nn.Module) -> None:
        self.matrices: list[Shape] = []
        self.shapes: set[Shape] = set()
        self.pictures = 0
        self._network = network
        self._script = (
            ScriptTaps(network).attention() if isinstance(network, torch.jit.ScriptModule) else None
        )
        self.scripted = self._script is not None

    def __call__(self, batch: Tensor) -> tuple[object, list[Tensor]]:
        """Return (the network's output, its attention matrices)."""
        self.pictures = len(batch)
        with _Functions(len(batch)) as functions:
            if self._script is None:
                output = self._network(batch.detach().requires_grad_())
            else:
                output, values = self._script(batch)
                for value in values:
                    functions.see(value)
        self.matrices = [tuple(matrix.shape) for matrix in functions.matrices]
        self.shapes = functions.shapes
        return output, functions.matrices


class _Functions(TorchFunctionMode):
    """Keeps the attention matrices that tensor functions make of ``pictures`` pictures."""

    def __init__(self, pictures: int) -> None:
        super().__init__()
        self.matrices: list[Tensor] = []
        self.shapes: set[Shape] = set()
        self._pictures = pictures

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", "")).partition(".")[0]
        if func is F.multi_head_attention_forward:
            with self:
                return _MULTI_HEAD(*args, **kwargs)
        if name == _FUSED:
            explicit = torch.ops.aten._scaled_dot_product_attention_math
            result, matrix = explicit(*args, **kwargs)
            self.matrices.append(matrix)
            return result
        result = func(*args, **kwargs)
        if name in _SOFTMAX and _is_attention(result):
            return self._kept(result)
        self._note(result)
        return result

    def see(self, value: Tensor) -> None:
        """Take a value that was made elsewhere, and keep it if it is an attention matrix."""
        if _is_attention(value):
            self.matrices.append(value)
        else:
            self._note(value)

    def _kept(self, matrix: Tensor) -> Tensor:
        """Keep a matrix, with an axis of heads, and return what the network goes on with."""
        heads = matrix
        if matrix.ndim == 3 and len(matrix) % self._pictures == 0:
            heads = matrix.reshape(self._pictures, -1, *matrix.shape[1:])
        self.matrices.append(heads)
        return heads.reshape(matrix.shape)  # what follows must depend on what is kept

    def _note(self, result: Any) -> None:
        if not isinstance(result, Tensor) or result.ndim not in (3, 4):
            return
        shape = tuple(result.shape)
        if shape[0] == self._pictures:
            self.shapes.add(shape)
        elif result.ndim == 3 and shape[1] == self._pictures:  # the sequence stands first
            self.shapes.add((shape[1], shape[0], shape[2]))


def _with_heads(matrix: Tensor) -> Tensor:
    return (matrix[:, None] if matrix.ndim == 3 else matrix).float()


def _is_attention(matrix: Tensor) -> bool:
    """Return whether these are rows, of several tokens, that add up to 1."""
    if matrix.ndim < 3:
        return False
    sums = matrix.detach().float().sum(-1)
    return bool(((sums - 1).abs() < _ROUNDING).all())


def _grid(watched: _Watched, picture: tuple[int, int]) -> Grid:
    """Return how the tokens lie over the picture, where each matrix joins all of them."""
    tokens = watched.matrices[0][-1]
    square = (tokens, tokens)
    lengths = {shape[1] for shape in watched.shapes if len(shape) == 3}
    joined = all(
        shape[0] == watched.pictures and len(shape) < 5 and shape[-2:] == square
        for shape in watched.matrices
    )
    # Windows and channels may be as many as places; a sequence of them is not one a picture.
    if not joined or not (tokens in lengths or watched.scripted):
        sizes = dict.fromkeys(f"{shape[-2]}x{shape[-1]}" for shape in watched.matrices)
        raise NotApplicable(
            "the attention does not join all places of the picture with one another in every "
            "block, as in windowed and hierarchical transformers and where attention pools the "
            f"patches (matrices of {', '.join(sizes)})"
        )
    for grid in find_grids((1, tokens, 1), picture):
        if _made(grid, watched.shapes, lengths, picture):
            return grid
    raise NotApplicable(f"the {tokens} tokens of the attention form no grid over the picture")


def _made(grid: Grid, shapes: set[Shape], lengths: set[int], picture: tuple[int, int]) -> bool:
    """Return whether the network made such a grid: as a feature map, else as a sequence."""
    fields = [found for shape in shapes if len(shape) == 4 for found in find_grids(shape, picture)]
    if fields:
        return any((grid.height, grid.width) == (f.height, f.width) for f in fields)
    return grid.height * grid.width in lengths


def _read(gradient: Tensor, prefix: int) -> Tensor:
    """Return how much of each token is read (n, tokens), from gradients (n, heads, tokens, tokens).

    The score depends on a row of the last matrix only where it reads the token behind it.
    """
    rows = gradient.abs().amax((1, 3)) > 0
    # A score that depends on nothing reads what such networks usually read.
    usual = torch.arange(rows.shape[1], device=rows.device)
    usual = usual == 0 if prefix else usual >= 0
    rows = torch.where(rows.any(1, keepdim=True), rows, usual).float()
    kinds = [rows[:, :prefix], rows[:, prefix:]]
    shares = [kind / kind.sum(1, keepdim=True).clamp_min(1) for kind in kinds]
    read = torch.cat(shares, dim=1)
    return read / read.sum(1, keepdim=True)
