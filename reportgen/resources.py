"""The only place that knows where templates and prompts are, in a checkout and in a wheel.

In a wheel the folders lie inside the package; in a checkout they lie beside it.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from reportgen.errors import OutputError, unknown_name


def html_template(file: str) -> str:
    """Return the text of ``templates/html/FILE``.

    Raises UsageError for a file that does not exist, OutputError for a broken installation.
    """
    return _text(_folder("templates") / "html", "HTML template", file)


def text_template(language: str, file: str) -> str:
    """Return the text of ``templates/text/LANGUAGE/FILE``.

    Raises UsageError, listing what there is, for a language or a file that does not exist, and
    OutputError for a broken installation.
    """
    if language not in languages():
        raise unknown_name("language", language, languages())
    return _text(_folder("templates") / "text" / language, "text template", file)


def languages() -> list[str]:
    """Return the languages of the text templates: the folders of ``templates/text``.

    Raises OutputError for a broken installation.
    """
    return _names(_folder("templates") / "text")


def prompt(file: str) -> str:
    """Return the text of ``prompts/FILE``.

    Raises UsageError for a file that does not exist, OutputError for a broken installation.
    """
    return _text(_folder("prompts"), "prompt", file)


def _text(folder: Traversable, kind: str, file: str) -> str:
    if file not in _names(folder):
        raise unknown_name(kind, file, _names(folder))
    return (folder / file).read_text(encoding="utf-8")


def _names(folder: Traversable) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _folder(name: str) -> Traversable:
    places: tuple[Traversable, ...] = (files("reportgen"), Path(__file__).parent.parent)
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise OutputError(
        f"The folder '{name}' is missing from this installation; install reportgen again."
    )
