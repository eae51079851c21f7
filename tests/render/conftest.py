"""One report drawn once, for all tests that only look at it."""

from __future__ import annotations

import pytest
from html_page import Drawn
from sample_report import sample

from reportgen.render.html import to_html


@pytest.fixture(scope="session")
def five() -> Drawn:
    """Return a report over five methods, for an input of 224 x 224 pixels."""
    report, arrays = sample()
    return Drawn(report, arrays, to_html(report, arrays))


@pytest.fixture(scope="session")
def small() -> Drawn:
    """Return a report over one method, for an input of 48 x 48 pixels."""
    report, arrays = sample(("gradcam",), (48, 48))
    return Drawn(report, arrays, to_html(report, arrays))
