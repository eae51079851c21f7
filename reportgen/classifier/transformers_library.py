"""The library transformers, where it is installed, without its bars and messages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from reportgen.classifier.hub import missing_library
from reportgen.classifier.torchvision_operators import ensure_torchvision


def require_transformers(source: str, extra: str) -> None:
    """Import transformers; raise ModelError, naming the ``extra``, where ``source`` lacks it."""
    ensure_torchvision()
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise missing_library(source, "transformers", extra) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and messages to itself inside the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
