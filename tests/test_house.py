"""The habits of the code, as far as a machine can check them; CONTRIBUTING.md lists them."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "reportgen"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MOST_FILE_LINES = 400
MOST_BODY_LINES = 40
MOST_PARAMETERS = 7
MOST_MEDIAN_BODY_LINES = 10
VAGUE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}

# None of these is needed to list the options; each costs a second or more.
HEAVY = {
    "captum",
    "lime",
    "matplotlib",
    "pytorch_grad_cam",
    "shap",
    "skimage",
    "torch",
    "torchvision",
    "transformers",
    "weasyprint",
}

# One character of each is a class, so that this file does not find itself.
PRIVATE = {
    "a path of one machine": rb"(?<![\w.~-])/(?:home|root|[U]sers|[w]ork)/",
    "the host of a package index": rb"pypi[.]org|pythonhosted[.]org|[d]ownload[.]pytorch[.]org",
    "an option naming an index": rb"--(?:extra-)?[i]ndex-url|--[f]ind-links",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Law = Callable[[ast.Module], Iterator[str]]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Count the lines of a body from its first statement after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def parameters(function: Function) -> list[str]:
    arguments = function.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in named if name not in ("self", "cls")]


def long_bodies(tree: ast.Module) -> Iterator[str]:
    for function in functions(tree):
        if body_lines(function) > MOST_BODY_LINES:
            yield f"line {function.lineno}: {function.name} has {body_lines(function)} lines"


def many_parameters(tree: ast.Module) -> Iterator[str]:
    for function in functions(tree):
        if len(parameters(function)) > MOST_PARAMETERS:
            yield f"line {function.lineno}: {function.name} takes {len(parameters(function))}"


def prints(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"line {node.lineno}: {ast.unparse(node)}"


def asserts(tree: ast.Module) -> Iterator[str]:
    """Find assertions, except those that only tell the type checker what something is."""
    narrowing = re.compile(r"\w[\w.]* is not None|isinstance\(.*\)")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and not narrowing.fullmatch(ast.unparse(node.test)):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def passed_through(tree: ast.Module) -> Iterator[str]:
    """Find calls that hand a function's own ``**kwargs`` on."""
    for function in functions(tree):
        own = function.args.kwarg
        handed = [n for n in ast.walk(function) if isinstance(n, ast.keyword) and n.arg is None]
        for node in handed:
            if own and ast.unparse(node.value) == own.arg:
                yield f"line {node.value.lineno}: {function.name} hands on **{own.arg}"


LAWS: dict[str, Law] = {
    "a body is short": long_bodies,
    "a function takes few parameters": many_parameters,
    "only the command line prints": prints,
    "a user's error is no assertion": asserts,
    "keywords are named": passed_through,
}

OFFENCES = {
    "a body is short": "def f():\n" + "    x = 1\n" * (MOST_BODY_LINES + 1),
    "a function takes few parameters": "def f(a, b, c, d, *, e, f, g, h): ...",
    "only the command line prints": "def f():\n    print('here')",
    "a user's error is no assertion": "def f(x):\n    assert x",
    "keywords are named": "def f(**options):\n    g(1, **options)",
}

AT_THE_LIMIT = {
    "a body is short": "def f():\n    '''Say.'''\n" + "    x = 1\n" * MOST_BODY_LINES,
    "a function takes few parameters": "class A:\n    def f(self, a, b, c, d, *, e, f, g): ...",
    "only the command line prints": "def f():\n    fingerprint('here')",
    "a user's error is no assertion": "def f(x):\n    assert x.y is not None",
    "keywords are named": "def f(**options):\n    g(**{'a': options})",
}


@pytest.mark.parametrize("law", LAWS)
def test_the_package_keeps_the_law(law: str) -> None:
    exempt = (
        {"cli.py", "listings.py", "progress.py"} if law == "only the command line prints" else set()
    )
    offences = [
        f"{source.relative_to(ROOT)} {offence}"
        for source in SOURCES
        if source.name not in exempt
        for offence in LAWS[law](ast.parse(source.read_text(encoding="utf-8")))
    ]
    assert offences == []


@pytest.mark.parametrize("law", LAWS)
def test_the_law_catches_an_offence_and_allows_the_limit(law: str) -> None:
    assert len(list(LAWS[law](ast.parse(OFFENCES[law])))) == 1
    assert list(LAWS[law](ast.parse(AT_THE_LIMIT[law]))) == []


def test_files_are_short() -> None:
    lengths = {s.relative_to(ROOT): len(s.read_text("utf-8").splitlines()) for s in SOURCES}
    assert {file: n for file, n in lengths.items() if n > MOST_FILE_LINES} == {}


def test_half_of_all_bodies_are_very_short() -> None:
    trees = [ast.parse(source.read_text(encoding="utf-8")) for source in SOURCES]
    lengths = [body_lines(function) for tree in trees for function in functions(tree)]
    assert statistics.median(lengths) < MOST_MEDIAN_BODY_LINES


def test_modules_are_named_after_what_they_hold() -> None:
    parts = {part for source in SOURCES for part in source.relative_to(ROOT).with_suffix("").parts}
    assert parts & VAGUE_NAMES == set()


def lint_imports(where: Path) -> subprocess.CompletedProcess[str]:
    command = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    assert command, "import-linter is part of the dev extra: pip install -e '.[dev]'"
    return subprocess.run(
        [command, "--no-logo", "--no-cache"],
        cwd=where,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "PYTHONUTF8": "1"},
        check=False,
    )


def test_imports_keep_the_table() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


# What is written into a copy of the package, and the sentence that must answer it.
PLANTS = {
    "a sibling": (
        {"metrics/planted.py": "import reportgen.attribution"},
        "reportgen.metrics is not allowed to import reportgen.attribution",
    ),
    "a layer above": (
        {"perturbation/planted.py": "import reportgen.metrics"},
        "reportgen.perturbation is not allowed to import reportgen.metrics",
    ),
    "inside a function": (
        {"classifier/planted.py": "def f():\n    import reportgen.render"},
        "reportgen.classifier is not allowed to import reportgen.render",
    ),
    "drawing in the pipeline": (
        {"pipeline.py": "import reportgen.render"},
        "reportgen.pipeline is not allowed to import reportgen.render",
    ),
    "a module outside the table": (
        {"planted.py": ""},
        "The following modules are not listed as layers:\n\n- reportgen.planted",
    ),
    "a cycle": (
        {
            "metrics/planted.py": "import reportgen.metrics.implanted",
            "metrics/implanted.py": "import reportgen.metrics.planted",
        },
        "No cycles are allowed in reportgen.metrics",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_forbidden_import_is_caught(plant: str, tmp_path: Path) -> None:
    files, answer = PLANTS[plant]
    shutil.copytree(PACKAGE, tmp_path / "reportgen")
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for file, source in files.items():
        (tmp_path / "reportgen" / file).write_text(source, encoding="utf-8")
    outcome = lint_imports(tmp_path)
    assert outcome.returncode == 1
    assert answer in outcome.stdout


def test_the_table_in_words_is_the_table_enforced() -> None:
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter", encoding="utf-8")
    enforced = re.findall(r"\((\w+)\)", linter["importlinter:contract:layers"]["layers"])
    rows = re.findall(r"^\| \d \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(enforced)


def test_the_tests_that_are_named_exist() -> None:
    named = re.findall(r"tests/[\w/]+\.py", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert len(named) > 3
    assert [name for name in named if not (ROOT / name).is_file()] == []


def imported_by(*arguments: str) -> tuple[set[str], str]:
    """Run Python; return the top-level packages it imported, and its output."""
    outcome = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr.splitlines()[-1]
    names = re.findall(r"^import time:.*\| +(\S+)$", outcome.stderr, re.M)
    return {name.partition(".")[0] for name in names}, outcome.stdout


def test_importing_the_package_is_cheap() -> None:
    imported, _ = imported_by("-c", "import reportgen")
    assert "reportgen" in imported
    assert imported & HEAVY == set()


def test_asking_for_help_is_cheap() -> None:
    imported, output = imported_by("-m", "reportgen", "--help")
    assert "explain" in output
    assert imported & HEAVY == set()


def test_a_heavy_import_is_seen() -> None:
    imported, _ = imported_by("-c", "import matplotlib.colors")
    assert imported & HEAVY == {"matplotlib"}


def project_files() -> list[Path]:
    """Return the files that are in version control or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this copy is no git checkout, so its own files cannot be told from others")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def private_words(content: bytes) -> list[str]:
    return [kind for kind, pattern in PRIVATE.items() if re.search(pattern, content)]


def test_files_name_no_machine_and_no_index() -> None:
    found = {path.relative_to(ROOT): private_words(path.read_bytes()) for path in project_files()}
    assert {path: kinds for path, kinds in found.items() if kinds} == {}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'File "/%s/ann/model.py"' % b"home", ["a path of one machine"]),
        (b"see /%s/model.py" % b"work", ["a path of one machine"]),
        (b"https://%s.org/simple" % b"pypi", ["the host of a package index"]),
        (b"pip install --%s-url X" % b"index", ["an option naming an index"]),
        (b"/homework/ and ./work/done and https://doi.org/10.1/rooted", []),
    ],
)
def test_private_words_are_found(content: bytes, found: list[str]) -> None:
    assert private_words(content) == found


def project() -> dict[str, Any]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(content["project"])


def pins() -> dict[str, str]:
    """Return the version of each line of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements() -> list[Requirement]:
    """Return what the project and its tests need; the other extras are optional to both."""
    listed = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    return [Requirement(text) for text in listed]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_each_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_pins_fit_every_build() -> None:
    assert [version for version in pins().values() if "+" in version] == []
    assert pins()["torch"] == "2.13.0"


def test_the_changelog_speaks_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d\S*)\]", changelog, re.M)
    assert released[0] == project()["version"]
