"""What a run shows of its stages on the command line, and an interrupt that ends it at the next."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Started = Callable[[str], None]


@contextmanager
def progress(quiet: bool, stages: int) -> Iterator[Started]:
    """Yield what hears of each stage: a bar on a terminal, plain lines elsewhere, or nothing."""
    with _heeded() as check, _shown(quiet, stages) as show:

        def started(stage: str) -> None:
            check()
            show(stage)

        yield started


@contextmanager
def _heeded() -> Iterator[Callable[[], None]]:
    """Yield what raises KeyboardInterrupt where an interrupt has come inside the block.

    Python raises it at once, but compiled modules that are being imported may drop it, as those of
    SciPy do.
    """
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    alone = threading.current_thread() is threading.main_thread()
    if not alone or before is not signal.default_int_handler:
        yield lambda: None
        return

    def note(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(quiet: bool, stages: int) -> Iterator[Started]:
    if quiet:
        yield lambda stage: None
    elif not sys.stderr.isatty():
        yield lambda stage: print(f"reportgen: {stage}", file=sys.stderr)
    else:
        with _bar(stages) as started:
            yield started


@contextmanager
def _bar(stages: int) -> Iterator[Started]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=stages + 1)

        def started(stage: str) -> None:
            bar.update(task, description=stage, advance=1)

        yield started
