"""Attention relevance: attention weighted by gradients, added up from block to block.

The authors' code is tied to its own copies of the networks, and neither captum, timm, transformers
nor grad-cam has it, so the arithmetic is our own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from reportgen.attribution.attention_maps import CHECK, followed
from reportgen.attribution.base import Explained, Method, Request
from reportgen.classifier.attention import Attention
from reportgen.config import Config
from reportgen.records import Card
from reportgen.work import Size, Work

CARD = Card(
    key="attention-relevance",
    title="Attention Relevance",
    category="attention, gradient-weighted",
    definition="In each block of a transformer, attention times the gradient of the class score by "
    "it, with negative products set to zero, averaged over heads; starting from the identity, "
    "each block adds what it passes on of the relevance so far. The map is what the patches have "
    "in the tokens that the score reads: the class token, or all patches alike where the network "
    "averages them; the identity is left out.",
    paper="Chefer, Gur and Wolf, Generic Attention-Model Explainability for Interpreting Bi-Modal "
    "and Encoder-Decoder Transformers, ICCV 2021, arXiv 2103.15679 (equations 5 and 6)",
    range=(0, None),
    needs="a transformer in which every token attends to every other, and gradients of its "
    "attention",
    seeding="deterministic",
    self_check=CHECK,
    limits="As coarse as the patches; counts only attention that speaks for the class. The layers "
    "between attention are left out, except through the gradient.",
    granularity="patches",
)


def _explain(request: Request) -> Explained:
    found = followed(request, CARD, _relevance)
    score = request.classifier.evaluator.head.score
    return replace(found, settings={"score": score, **found.settings})


def _relevance(attention: Attention) -> Tensor:
    """Return the relevance of each token (n, tokens) for what the score reads."""
    row, gained = attention.read, torch.zeros_like(attention.read)
    for matrix, gradient in zip(
        reversed(attention.matrices), reversed(attention.gradients), strict=True
    ):
        weighted = (matrix * gradient).clamp_min(0).mean(1)
        added = (row[:, None] @ weighted)[:, 0]
        # The identity is never added to: it would drown small relevance in its rounding.
        row, gained = row + added, gained + added
    return gained


def _work(config: Config, size: Size) -> Work:
    return Work(1, 1)


METHOD = Method(CARD, _explain, _work)
