"""How long a new process takes to answer, and to import what a report needs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median

_STARTS = 3
_NO_FILE = "no-such-file"
_COMMANDS = (
    ("reportgen --help", ("--help",), 0),
    ("refusing a path that does not exist", ("explain", _NO_FILE, _NO_FILE), 3),
)
_IMPORTS = """
import contextlib, importlib, json, sys, time
start = time.perf_counter()
import reportgen.api, reportgen.cli, reportgen.render.writer
first = time.perf_counter()
from reportgen.classifier.torchvision_operators import ensure_torchvision
ensure_torchvision()
for name in json.load(sys.stdin):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
print(json.dumps([first - start, time.perf_counter() - first]))
"""


def start_up(later: list[str]) -> dict[str, float]:
    """Return the seconds of new processes; ``later`` are the modules that the stages load.

    The median of a few: the first also reads the files from the disk.
    """
    found = {
        name: median(_process_seconds(words, code) for _ in range(_STARTS))
        for name, words, code in _COMMANDS
    }
    imports = [_import_seconds(later) for _ in range(_STARTS)]
    found["importing what explain needs at once"] = median(first for first, _ in imports)
    found["importing what its steps need later"] = median(second for _, second in imports)
    return found


def _process_seconds(words: tuple[str, ...], code: int) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "reportgen", *words], capture_output=True)
    taken = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(f"reportgen {' '.join(words)} ended with {done.returncode}, not {code}")
    return taken


def _import_seconds(later: list[str]) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS], input=json.dumps(later), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"a new process cannot import what this one has: {done.stderr}")
    first, second = json.loads(done.stdout.splitlines()[-1])
    return first, second
