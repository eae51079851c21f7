"""Templates and prompts are found in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from reportgen import resources
from reportgen.errors import OutputError, UsageError
from reportgen.resources import html_template, prompt, text_template


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package folder that holds its own templates and prompts, as in a wheel."""
    for name in ("templates/html", "templates/text/en", "prompts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "templates/html/page.j2").write_text("ä", encoding="utf-8")
    (tmp_path / "templates/text/en/findings.toml").write_text("b", encoding="utf-8")
    (tmp_path / "prompts/rewrite.txt").write_text("c", encoding="utf-8")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    return tmp_path


def test_a_checkout_has_the_templates_of_the_report() -> None:
    assert html_template("report.html.j2").startswith("{# Variables: ")


@pytest.mark.usefixtures("wheel")
def test_a_wheel_brings_its_own() -> None:
    assert html_template("page.j2") == "ä"
    assert text_template("en", "findings.toml") == "b"
    assert prompt("rewrite.txt") == "c"


@pytest.mark.usefixtures("wheel")
def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"^Unknown HTML template 'x'; the known ones are: page\.j2"
    ):
        html_template("x")
    with pytest.raises(UsageError, match=r"^Unknown language '\.\.'; the known ones are: en\.$"):
        text_template("..", "html")
    with pytest.raises(UsageError, match=r"^Unknown text template '\.\./x'; .*findings\.toml"):
        text_template("en", "../x")
    with pytest.raises(UsageError, match=r"^Unknown prompt 'x'; the known ones are: rewrite\.txt"):
        prompt("x")


def test_a_broken_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "reportgen" / "resources.py"))
    with pytest.raises(OutputError, match=r"^The folder 'templates' is missing"):
        html_template("report.html.j2")
