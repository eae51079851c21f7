"""Stages are shown, and an interrupt ends a run at the next one even where a library drops it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from reportgen.progress import progress


@pytest.fixture
def listening() -> Iterator[None]:
    """Python's own handler, also where whoever runs the tests has interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_stages_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=False, stages=2) as started:
        started("prediction")
    assert capsys.readouterr().err == "reportgen: prediction\n"


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=True, stages=2) as started:
        started("prediction")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("listening")
def test_an_interrupt_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), progress(quiet=True, stages=1):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("listening")
def test_an_interrupt_that_is_dropped_ends_the_run_at_the_next_stage() -> None:
    with progress(quiet=True, stages=1) as started:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            started("deletion")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("listening")
def test_interrupts_that_are_ignored_stay_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with progress(quiet=True, stages=1) as started:
        signal.raise_signal(signal.SIGINT)
        started("deletion")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
