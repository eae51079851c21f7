"""An HTML page taken apart, so that tests can ask what is in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from numpy.typing import NDArray

from reportgen.records import Report

FETCHING = frozenset(
    {"action", "background", "cite", "data", "formaction", "href", "poster", "src", "srcset"}
)
ACTIVE = frozenset(
    {"base", "embed", "form", "frame", "iframe", "input", "link", "object", "script", "template"}
)
INLINE = frozenset({"a", "b", "span", "sup"})
VOID = frozenset({"br", "img", "meta"})


@dataclass(frozen=True)
class Drawn:
    """A report, its arrays, and its HTML."""

    report: Report
    arrays: dict[str, NDArray[Any]]
    html: str


@dataclass
class Element:
    """A tag with its attributes and the text inside of it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """All elements in order; the text of an element includes that of the elements inside."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"
        if tag not in INLINE:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def having(self, attribute: str) -> list[str]:
        return [e.attributes[attribute] for e in self.elements if attribute in e.attributes]

    def of_class(self, name: str) -> list[Element]:
        return [e for e in self.elements if name in e.attributes.get("class", "").split()]

    @property
    def text(self) -> str:
        """The text of the body, with single spaces."""
        (body,) = self.all("body")
        return " ".join(body.text.split())


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def offences(html: str) -> list[str]:
    """Return what in a page could load, run or send anything."""
    page = parse(html)
    found = [f"element {element.tag}" for element in page.all(*ACTIVE)]
    for element in page.elements:
        for name, value in element.attributes.items():
            inside = value.startswith("#" if name == "href" else "data:image/")
            if name in FETCHING and not inside:
                found.append(f"{element.tag} {name}")
            if name.startswith("on") or name == "style":
                found.append(f"{element.tag} {name}")
    styles = " ".join(element.text for element in page.all("style"))
    return found + re.findall(r"url\(|@import|expression\(", styles)
