"""The commands in README.md work: each marked block is run, in order, in a copy.

A block is marked by the line ``<!-- test -->`` before its fence. In a ``console`` block the lines
that start with ``$ `` are commands and the others are output; a ``bash`` block is all commands.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

BLOCK = re.compile(r"^<!-- test -->\n+```(console|bash)\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"^<!-- test -->$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and the text between its fences."""

    language: str
    text: str

    @property
    def script(self) -> str:
        """The commands, one a line; an indented line after a command continues it."""
        if self.language == "bash":
            return self.text
        commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", self.text, re.M)
        return "".join(f"{command}\n" for command in commands)


def marked_blocks(markdown: str) -> list[Block]:
    """Return the marked blocks of a document, in order."""
    return [Block(*found) for found in BLOCK.findall(markdown)]


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in ``folder``, up to the first failure, with this environment's programs."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


BLOCKS = marked_blocks(README.read_text(encoding="utf-8"))


def test_the_readme_has_commands_to_run() -> None:
    marks = MARK.findall(README.read_text(encoding="utf-8"))
    assert len(BLOCKS) > 0
    assert len(BLOCKS) == len(marks), "a mark stands before something that is no command block"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all blocks: a reader too has at hand what earlier commands wrote."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.script.split("\n")[0])
def test_the_commands_work(block: Block, folder: Path) -> None:
    outcome = run(block.script, folder)
    assert outcome.returncode == 0, outcome.stdout


DOCUMENT = """
```bash
unmarked
```

<!-- test -->
```console
$ echo one \\
    two
one two
$ echo three
three
```

<!-- test -->

```bash
x=four
echo $x
```
"""


def test_only_the_commands_of_marked_blocks_are_taken(tmp_path: Path) -> None:
    console, bash = marked_blocks(DOCUMENT)
    assert console.script == "echo one \\\n    two\necho three\n"
    assert run(console.script, tmp_path).stdout == "one two\nthree\n"
    assert run(bash.script, tmp_path).stdout == "four\n"


@pytest.mark.parametrize("script", ["false\ntrue", "false | true", "echo $undefined_name"])
def test_a_command_that_fails_is_seen(script: str, tmp_path: Path) -> None:
    assert run(script, tmp_path).returncode != 0
