"""Independent streams of random numbers, all from one seed."""

from __future__ import annotations

import hashlib
import json

import torch


def stream(seed: int, *key: str | int) -> torch.Generator:
    """Return a CPU generator for the draws called ``key``: equal arguments, equal numbers.

    Streams with different keys are unrelated, so that drawing more of one thing changes nothing
    else. The key is hashed with SHA-256, because Python's own hash of a text is salted.
    """
    digest = hashlib.sha256(json.dumps([seed, *key]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
