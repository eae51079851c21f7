"""The flags of the command line: each switch has its opposite, and the documents name no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from reportgen.config import Config
from reportgen.flags import flags_given, with_flags

ROOT = Path(__file__).parents[1]
SWITCHES = [name for name, field in Config.model_fields.items() if field.annotation is bool]
# Those of the commands themselves.
OTHERS = {"config", "dry-run", "format", "help", "model", "out", "quiet", "survey", "version"}
PIPS = {"constraint"}


def given(*arguments: str) -> dict[str, Any]:
    """Return the options of Config that a command sees."""
    seen: dict[str, Any] = {}

    def command(context: typer.Context, **_options: Any) -> None:
        seen.update(flags_given(context))

    app = typer.Typer()
    app.command()(with_flags(command, Config.model_fields))
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    return seen


def flag(name: str) -> str:
    return name.replace("_", "-")


def test_what_is_not_said_is_not_given() -> None:
    assert given() == {}


def test_switches_were_found() -> None:
    assert {"folding", "trust_pickle"} <= set(SWITCHES)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_goes_on_and_off(name: str) -> None:
    assert given(f"--{flag(name)}") == {name: True}
    assert given(f"--no-{flag(name)}") == {name: False}


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_a_flag_that_a_document_names_exists(document: str) -> None:
    known = {flag(name) for name in Config.model_fields} | OTHERS | PIPS
    known |= {f"no-{flag(name)}" for name in SWITCHES}
    named = re.findall(r"(?<![\w-])--([a-z][a-z-]*)", (ROOT / document).read_text("utf-8"))
    assert len(named) > 10
    assert set(named) - known == set()
