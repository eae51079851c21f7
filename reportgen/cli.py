"""The command line: arguments to options, errors to exit codes, and the only prints.

Exit codes: 0 done; 1 a fault of reportgen; 2 options; 3 the model; 4 the picture; 5 the output;
130 interrupted.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from reportgen.config import Config, load_config, split_names
from reportgen.errors import ImageError, ModelError, ReportgenError

if TYPE_CHECKING:
    from reportgen.records import Report

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn an image classifier and a picture into a Model Explainability Report.",
)
Started = Callable[[str], None]
_INTERRUPTED = 130
_OWN = ("model", "image", "out", "config", "formats", "quiet")


def main() -> None:
    """Run the command line; print one sentence and exit with a documented code on bad input."""
    try:
        app()
    except ReportgenError as error:
        print(f"reportgen: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # typer has caught the interrupt, and says nothing
            print("reportgen: interrupted; nothing was written.", file=sys.stderr)
        raise


def _explain(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A model file (.pt, .pth, .safetensors, .pt2) or torchvision:NAME."),
    ],
    image: Annotated[str, typer.Argument(help="A picture.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path("out"),
    config: Annotated[Path | None, typer.Option(help="A TOML file with options.")] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help="What to write: html,pdf,json (all by default).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    **_: Any,
) -> None:
    """Explain what MODEL says about IMAGE: report.html, report.pdf and report.json."""
    options = load_config(config, _flags(context))
    wanted = split_names(formats) if formats else ("html", "pdf", "json")
    _check_paths(model, image)
    from reportgen.render.writer import (
        check_directory,
        check_formats,
        possible_formats,
        write_report,
    )

    required = formats is not None and "pdf" in wanted
    check_formats(wanted)
    check_directory(out)
    if required:
        possible_formats(wanted, require_pdf=True)
    from reportgen.api import explain

    with _progress(quiet, options) as started:
        explanation = explain(model, image, options, started)
        started("writing")
        written = write_report(
            explanation.report, explanation.arrays, out, wanted, require_pdf=required
        )
    if "pdf" in wanted and not any(path.suffix == ".pdf" for path in written):
        _explain_missing_pdf()
    if not quiet:
        _summary(explanation.report, written)


def _flags(context: typer.Context) -> dict[str, Any]:
    """Return the options that were given on the command line, by name."""
    return {
        name: value
        for name, value in context.params.items()
        if name not in _OWN and _given(context, name)
    }


def _given(context: typer.Context, name: str) -> bool:
    # By name: typer may bring its own copy of click, whose enumeration is another.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each field of Config, so that options stand in one table."""
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    flags = [_flag(name) for name in Config.model_fields]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return command


def _flag(name: str) -> inspect.Parameter:
    field = Config.model_fields[name]
    switch = "--" + name.replace("_", "-")
    text = field.description or ""
    kind, choices = _kind(field.annotation)
    if choices:
        text = f"{text} One of: {', '.join(choices)}."
    option = typer.Option(switch, help=text, show_default=field.default not in ("", None))
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the plain type that typer parses, and the choices where there are some.

    Limits and choices are checked by Config, so that every source of options is checked alike.
    """
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return str, parts
    if get_origin(annotation) is Annotated:
        return _kind(parts[0])
    if type(None) in parts:
        kind, choices = _kind(parts[0])
        return kind | None, choices
    return annotation, ()


def _check_paths(model: str, image: str) -> None:
    # Before torch is imported, so that a mistyped path is refused at once.
    if ":" not in model and not Path(model).exists():
        raise ModelError(f"There is no model file '{model}'; give the path of one.")
    if not Path(image).exists():
        raise ImageError(f"There is no picture '{image}'; give the path of one.")


@contextmanager
def _progress(quiet: bool, options: Config) -> Iterator[Started]:
    """Yield what hears of each stage: a bar on a terminal, plain lines elsewhere, or nothing."""
    if quiet:
        yield lambda stage: None
    elif not sys.stderr.isatty():
        yield lambda stage: print(f"reportgen: {stage}", file=sys.stderr)
    else:
        with _bar(options) as started:
            yield started


@contextmanager
def _bar(options: Config) -> Iterator[Started]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    stages = len(split_names(options.methods)) + len(split_names(options.metrics)) + 2
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=stages + 1)

        def started(stage: str) -> None:
            progress.update(task, description=stage, advance=1)

        yield started


def _explain_missing_pdf() -> None:
    from reportgen.render.pdf import pdf_obstacle

    print(f"reportgen: {pdf_obstacle()}", file=sys.stderr)


def _summary(report: Report, written: tuple[Path, ...]) -> None:
    facts = {fact.name: fact.text for fact in report.facts}
    print(f"{facts['prediction.top1.label']}, {facts['prediction.top1.probability']}")
    print(f"{facts['model.architecture']}; {facts['model.head']}; on {facts['model.device']}")
    if facts["model.assumed"] != "nothing":
        print(f"Assumed: {facts['model.assumed']}.")
    for finding in report.findings:
        if finding.severity in ("problem", "caution"):
            print(f"{finding.severity}: {finding.statement}")
    for path in written:
        print(path)


app.command("explain")(_with_options(_explain))


@app.command()
def render(
    report: Annotated[Path, typer.Argument(help="A report.json with its maps.npz beside it.")],
    formats: Annotated[str, typer.Option("--format", help="What to write.")] = "html,pdf",
) -> None:
    """Make HTML and PDF again from report.json, without the model."""
    from reportgen.render.writer import render_files

    for path in render_files(report, split_names(formats)):
        print(path)


@app.command()
def methods() -> None:
    """List the attribution methods with their cards."""
    from reportgen.attribution import METHODS

    for method in METHODS.values():
        card = method.card
        print(f"{card.key}: {card.title} ({card.category}; needs {card.needs})")
        print(f"    {card.definition}\n    {card.paper}")


@app.command()
def schema() -> None:
    """Print the JSON schema of report.json."""
    from reportgen.records import json_schema

    print(json.dumps(json_schema(), indent=2, sort_keys=True))
