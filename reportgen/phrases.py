"""What reportgen itself says, in the language that is spoken now.

All words of a report stand in ``templates/text/LANGUAGE/*.toml``: a list ``variables`` of names
that the file may use, then one ``key = "text"`` a line under ``[sentences]``. A key may have dots,
and a text ``{names}`` that are filled in. ``words.toml`` has the words of facts, ``page.toml``
those of the page around them, ``cards.toml`` the cards of methods and metrics (in English they
stand in the code); ``sections.toml`` and ``findings.toml`` have the sentences that ``wording``
fills with facts.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from reportgen.errors import UsageError, unknown_name
from reportgen.resources import languages, text_template

ENGLISH = "en"
PHRASES = ("words.toml", "page.toml")
SENTENCES = ("sections.toml", "findings.toml")
CARDS = "cards.toml"
FILES = (*PHRASES, *SENTENCES)

_PLACE = re.compile(r"\{([^{}?]+)\??\}")


@dataclass(frozen=True)
class Sheet:
    """The texts of one template ``file`` by key, and the names that they may use."""

    file: str
    variables: frozenset[str]
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Speech:
    """A language, the sheets of its texts by file, and the folder of the user's own."""

    language: str
    sheets: Mapping[str, Sheet]
    folder: str = ""

    @cached_property
    def phrases(self) -> Mapping[str, str]:
        """The phrases of all files; no key stands in two of them."""
        return {k: text for file in PHRASES for k, text in self.sheets[file].texts.items()}


_SPOKEN: ContextVar[Speech | None] = ContextVar("spoken", default=None)


def phrase(key: str, **values: object) -> str:
    """Return the phrase ``key`` in the language spoken, ``{names}`` replaced by ``values``.

    Raises KeyError for a phrase or a value that does not exist.
    """
    text = _speech().phrases[key]
    return _PLACE.sub(lambda match: str(values[match[1]]), text)


def named(group: str, name: str) -> str:
    """Return the phrase ``group.name``, or the name itself where there is no such phrase."""
    return _speech().phrases.get(f"{group}.{name}", name)


def retold(group: str, english: str) -> str:
    """Return an English text in the language spoken, found among the phrases of ``group``.

    What was written down in English while it was measured is told in another language this way: the
    English phrase that has the form of the text gives its values. A text of no such form stays.
    """
    if language() == ENGLISH:
        return english
    for key, form in _forms(group).items():
        found = form.fullmatch(english)
        if found:
            values = found.groupdict().items()
            return phrase(key, **{name: retold(group, value) for name, value in values})
    return english


def counted(key: str, number: int, shown: str) -> str:
    """Return a number of things: the phrase ``key.one``, ``key.many``, or ``key.none`` if there is.

    ``shown`` is the number as it is written, ``{number}`` in the phrase.
    """
    ending = {0: "none", 1: "one"}.get(number, "many")
    known = f"{key}.{ending}" in _speech().phrases
    return phrase(f"{key}.{ending if known else 'many'}", number=shown)


def card_text(key: str, english: str) -> str:
    """Return the text ``key`` of a card in the language spoken; the English one without it."""
    sheet = _speech().sheets.get(CARDS)
    return sheet.texts.get(key, english) if sheet else english


def spoken_sheet(file: str) -> Sheet:
    """Return the sheet ``file`` of the language spoken; raises UsageError where it has none."""
    sheets = _speech().sheets
    if file not in sheets:
        raise unknown_name("text template", file, sheets)
    return sheets[file]


def language() -> str:
    """Return the language that is spoken now."""
    return _speech().language


@contextmanager
def speaking(language: str, folder: str = "") -> Iterator[None]:
    """Speak ``language``, with the user's own templates in ``folder`` in place of ours.

    A thread that is started inside speaks English, as a new context does. Raises UsageError, with
    file, key and variable, for templates that do not fit, and for a language that is not known.
    """
    before = _SPOKEN.get()
    _SPOKEN.set(speech_of(language, folder))
    try:
        yield
    finally:
        # Not by a token: a generator may be closed in another context than it began in.
        _SPOKEN.set(before)


@contextmanager
def speaking_of(language: str) -> Iterator[None]:
    """Speak ``language``, with the user's templates that are in use; raises as ``speaking``."""
    spoken = _speech()
    with nullcontext() if spoken.language == language else speaking(language, spoken.folder):
        yield


def speech_of(language: str, folder: str = "") -> Speech:
    """Return a language with the user's own templates; raises as ``speaking``."""
    shipped = language in languages()
    if not shipped and not folder:
        raise unknown_name("language", language, languages())
    base = _shipped(language if shipped else ENGLISH)
    own = {path.name: _own(path, base) for path in _own_files(folder)}
    if not shipped:
        _check_complete(own, base, language)
    merged = {file: _merged(sheet, own.get(file)) for file, sheet in base.sheets.items()}
    return Speech(language, {**own, **merged}, folder)


def templates_digest(folder: str) -> str:
    """Return the SHA-256 of the names and contents of the user's templates; "" without any."""
    digest = hashlib.sha256()
    for path in _own_files(folder):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest() if folder else ""


def parse_sheet(file: str, text: str) -> Sheet:
    """Return the sheet in ``text``.

    Raises UsageError for a text that is no such template, and, naming it, for a variable that a
    sentence uses but the file does not list.
    """
    parsed = _parsed(file, text)
    for name, kind in (("variables", list), ("sentences", dict)):
        if not isinstance(parsed.get(name), kind):
            raise UsageError(f"The text template {file} has no '{name}'; add them.")
    sheet = Sheet(file, frozenset(parsed["variables"]), dict(_flat(file, parsed["sentences"])))
    _check_variables(sheet, sheet.variables)
    return sheet


def places(text: str) -> frozenset[str]:
    """Return the names of the variables in a text."""
    return frozenset(_PLACE.findall(text))


def _speech() -> Speech:
    return _SPOKEN.get() or _shipped(ENGLISH)


@cache
def _shipped(language: str) -> Speech:
    files = (*FILES, CARDS) if language != ENGLISH else FILES
    return Speech(language, {file: _built_in(language, file) for file in files})


@cache
def _forms(group: str) -> Mapping[str, re.Pattern[str]]:
    """Return, for each English phrase of a group, the pattern of the texts that it makes."""
    phrases = _shipped(ENGLISH).phrases.items()
    return {key: _form(text) for key, text in phrases if key.startswith(f"{group}.")}


def _form(text: str) -> re.Pattern[str]:
    pieces = _PLACE.split(text)
    return re.compile(
        "".join(
            f"(?P<{piece}>.+?)" if odd % 2 else re.escape(piece) for odd, piece in enumerate(pieces)
        )
    )


def _built_in(language: str, file: str) -> Sheet:
    return parse_sheet(file, text_template(language, file))


def _own_files(folder: str) -> list[Path]:
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UsageError(
            f"Expected a folder of text templates, but '{folder}' is none; name one that holds "
            f"{', '.join(FILES)} or some of them."
        )
    return sorted(path for path in Path(folder).iterdir() if path.suffix == ".toml")


def _own(path: Path, base: Speech) -> Sheet:
    """Return the user's sheet in a file, once it fits the one of ``base`` that it replaces."""
    if path.name not in base.sheets:
        raise unknown_name("text template", path.name, base.sheets)
    try:
        parsed = _parsed(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The text template '{path}' cannot be read: {error}.") from None
    built = base.sheets[path.name]
    sheet = Sheet(path.name, built.variables, dict(_flat(path.name, parsed.get("sentences", {}))))
    _check_keys(sheet, built)
    _check_variables(sheet, built.variables)
    _check_kept(sheet, built)
    return sheet


def _merged(sheet: Sheet, own: Sheet | None) -> Sheet:
    return Sheet(sheet.file, sheet.variables, {**sheet.texts, **own.texts}) if own else sheet


def _check_complete(own: Mapping[str, Sheet], base: Speech, language: str) -> None:
    for file, sheet in base.sheets.items():
        there = own[file].texts if file in own else {}
        missing = next((key for key in sheet.texts if key not in there), None)
        if missing is not None:
            raise UsageError(
                f"The templates of the new language '{language}' lack '{missing}' in {file}; add "
                f"it, or choose a language that is there: {', '.join(languages())}."
            )


def _check_keys(sheet: Sheet, built: Sheet) -> None:
    for key in sheet.texts:
        if key not in built.texts:
            raise unknown_name(f"sentence in {sheet.file}", key, built.texts)


def _check_variables(sheet: Sheet, known: frozenset[str]) -> None:
    for key, text in sheet.texts.items():
        for name in sorted(places(text) - known):
            raise UsageError(
                f"The sentence '{key}' in {sheet.file} uses the variable '{name}', which the file "
                "does not list under 'variables'; add it there, or correct the sentence."
            )


def _check_kept(sheet: Sheet, built: Sheet) -> None:
    """Raise UsageError for a variable that a sentence drops, or that nothing fills in it."""
    for key, text in sheet.texts.items():
        lost = sorted(places(built.texts[key]) - places(text))
        if lost:
            raise UsageError(
                f"The sentence '{key}' in {sheet.file} drops the variable '{lost[0]}'; every "
                f"sentence keeps its numbers, so put {{{lost[0]}}} into it."
            )
        added = sorted(places(text) - places(built.texts[key]))
        if added and sheet.file in PHRASES:
            raise UsageError(
                f"The phrase '{key}' in {sheet.file} uses the variable '{added[0]}', which it is "
                "not given; take it out."
            )


def _parsed(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"The text template {file} is not valid TOML: {error}; correct it."
        ) from None


def _flat(file: str, tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of a tree of tables under their dotted keys."""
    for name, value in tree.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from _flat(file, value, key)
        elif isinstance(value, str):
            yield key, value
        else:
            raise UsageError(f"Expected a text for '{key}' in {file}, not {value!r}; quote it.")
