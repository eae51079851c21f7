"""Attention rollout: attention multiplied from block to block.

Neither captum, timm, transformers nor grad-cam has it, so the arithmetic is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reportgen.attribution.attention_maps import CHECK, followed
from reportgen.attribution.base import Explained, Method, Request
from reportgen.classifier.attention import Attention
from reportgen.config import Config
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="attention-rollout",
    title="Attention Rollout",
    category="attention, without the class",
    definition="In each block of a transformer, the attention of all heads is averaged, the "
    "identity is added for what passes by the attention, and each row is scaled to add up to 1; "
    "the product of all blocks says how much each patch reaches the tokens that the score reads: "
    "the class token, or all patches alike where the network averages them.",
    paper="Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, "
    "arXiv 2005.00928",
    range=(0, None),
    needs="a transformer in which every token attends to every other, and gradients to see which "
    "tokens the score reads",
    seeding="deterministic",
    self_check=CHECK,
    limits="As coarse as the patches; does not use the class, so the map is the same for every "
    "class. Says where information may have flowed from, not whether it was used: values and "
    "the layers between attention are left out.",
    granularity="patches",
    class_agnostic=True,
)


def _explain(request: Request) -> Explained:
    return followed(request, CARD, _rolled_out)


def _rolled_out(attention: Attention) -> Tensor:
    """Return how much of each token (n, tokens) reaches what the score reads, adding up to 1."""
    row = attention.read
    for matrix in reversed(attention.matrices):
        row = (row[:, None] @ _mixed(matrix))[:, 0]
    return row


def _mixed(matrix: Tensor) -> Tensor:
    """Return the mean over heads and the identity, half each, with rows that add up to 1."""
    mean = matrix.mean(1)
    mixed = mean + torch.eye(mean.shape[-1], device=mean.device)
    return mixed / mixed.sum(-1, keepdim=True)


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1)


METHOD = Method(CARD, _explain, _work)
