from __future__ import annotations

import hashlib

import pytest
import torch

from reportgen.perturbation.streams import stream


def numbers(seed: int, *key: str | int) -> list[float]:
    return torch.rand(4, generator=stream(seed, *key)).tolist()


def test_equal_keys_give_equal_numbers() -> None:
    assert numbers(3, "gaussian", 1) == numbers(3, "gaussian", 1)


@pytest.mark.parametrize(
    "other", [(4, "gaussian", 1), (3, "shot", 1), (3, "gaussian", 2), (3, "gaussian1"), (3,)]
)
def test_other_keys_give_other_numbers(other: tuple[int, str | int]) -> None:
    assert numbers(3, "gaussian", 1) != numbers(*other)


def test_key_is_not_its_parts_run_together() -> None:
    assert numbers(0, "a", "b") != numbers(0, "ab")
    assert numbers(0, "a", 12) != numbers(0, "a", 1, 2)


def test_stream_is_the_same_in_every_process() -> None:
    digest = hashlib.sha256(b'[7, "shot", 2]').digest()
    expected = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    assert numbers(7, "shot", 2) == torch.rand(4, generator=expected).tolist()


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    numbers(0, "a")
    assert torch.equal(before, torch.get_rng_state())
