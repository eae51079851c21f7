"""What several test modules need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failure belongs to the change that it follows.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

_ASSETS = "REPORTGEN_ASSETS"
_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared" / "assets"


@pytest.fixture(scope="session")
def assets() -> Path:
    """Return the folder of pictures and weights; skip where this machine has none."""
    folder = Path(os.environ.get(_ASSETS, _BESIDE_THE_CHECKOUT))
    if not folder.is_dir():
        pytest.skip(f"no pictures and weights here; {_ASSETS} names the folder that holds them")
    return folder
