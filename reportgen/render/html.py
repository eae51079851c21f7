"""A report as one HTML file: no network, no script, every picture inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from reportgen.phrases import language, phrase, speaking_of
from reportgen.records import Report
from reportgen.render.appendices import appendices
from reportgen.render.document import Document, numbered, shortened
from reportgen.render.figures import Source
from reportgen.render.lookup import index_facts
from reportgen.render.sections import sections
from reportgen.render.verdict import verdict
from reportgen.resources import html_template

NAME = 60
RUNNING = 38

# Control characters, marks that change the direction of writing, and half surrogate pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def to_html(report: Report, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the report as one HTML document, with the pictures drawn from ``arrays``.

    The words around what the report says are in its own language. A picture whose array is missing
    is left out. The same input gives the same text.
    """
    with speaking_of(report.language):
        template = environment().get_template("report.html.j2")
        return template.render(document=_document(report, arrays))


def _document(report: Report, arrays: Mapping[str, NDArray[Any]]) -> Document:
    source = Source(report, dict(arrays), index_facts(report))
    model, image = report.model.name, report.image.name
    return Document(
        title=phrase("report.title"),
        model=shortened(model, NAME),
        image=shortened(image, NAME),
        running=f"{shortened(model, RUNNING)} · {shortened(image, RUNNING)}",
        created=report.run.created,
        generator=f"reportgen {report.provenance.reportgen}",
        verdict=verdict(source),
        parts=numbered((*sections(source), *appendices(source))),
    )


@cache
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, nothing may be undefined."""
    made = Environment(
        loader=FunctionLoader(html_template),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["css_text"] = _css_text
    made.globals |= {"say": phrase, "language": language}
    return made


def _css_text(text: str) -> Markup:
    """Return a phrase as a string of CSS, in which nothing ends it."""
    return Markup(
        '"' + re.sub(r'["\\<>&\n]', lambda m: "\\" + hex(ord(m[0]))[2:] + " ", text) + '"'
    )


def _visible(value: object) -> object:
    """Return text with the characters replaced that would hide or reorder the text around them."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _HIDDEN.sub("\ufffd", value)
