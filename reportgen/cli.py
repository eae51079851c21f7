"""The command line: arguments to options, errors to exit codes, and the only prints.

Exit codes: 0 done; 1 a fault of reportgen; 2 options; 3 the model; 4 the picture; 5 the output;
130 interrupted.
"""

from __future__ import annotations

import gc
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from reportgen.allocator import keep_memory
from reportgen.config import Config, load_config, split_names
from reportgen.errors import ImageError, ModelError, ReportgenError, UsageError

if TYPE_CHECKING:
    from reportgen.preflight import Forecast
    from reportgen.records import Report
    from reportgen.surveys.records import Survey

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn an image classifier and a picture into a Model Explainability Report.",
)
Started = Callable[[str], None]
_INTERRUPTED = 130
_OWN = ("paths", "model", "out", "config", "formats", "quiet", "dry_run")


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
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS",
            help="A model file (.pt, .pth, .safetensors, .pt2) or torchvision:NAME, unless --model "
            "names one; then pictures, or folders of them.",
        ),
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="A model; given again, several are compared.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path("out"),
    config: Annotated[Path | None, typer.Option(help="A TOML file with options.")] = None,
    formats: Annotated[
        str | None,
        typer.Option("--format", help="What to write: html,pdf,json,csv (all by default)."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    **_: Any,
) -> None:
    """Explain what a model says about a picture: report.html, report.pdf, report.json, table.csv.

    Several pictures, a folder, or several models make a survey, with a report for each picture in
    images/.
    """
    options = load_config(config, _flags(context))
    keep_memory()
    # The default, 700, looks for rubbish a thousand times while libraries are imported.
    gc.set_threshold(50_000, 20, 20)
    models, images = _models_and_images(model or [], paths)
    _check_paths(models, images)
    if context.params["dry_run"]:
        _foresee(models, images, options)
        return
    task = _Task(models, images, out, options, _wanted(formats, out), formats is not None, quiet)
    if len(models) > 1 or len(images) > 1 or Path(images[0]).is_dir():
        _survey(task)
    else:
        _report(task)


@dataclass(frozen=True)
class _Task:
    """What the command line asks for; ``formats`` are those that can be made here."""

    models: list[str]
    images: list[str]
    out: Path
    options: Config
    formats: tuple[str, ...]
    chosen: bool
    quiet: bool


def _models_and_images(models: list[str], paths: list[str]) -> tuple[list[str], list[str]]:
    """Return the models and the pictures: without --model the first path is the model."""
    if models:
        return models, paths
    if len(paths) < 2:
        raise UsageError(
            f"Expected a model and a picture, but only '{paths[0]}' was given; give both, or name "
            "the model with --model."
        )
    return paths[:1], paths[1:]


def _wanted(formats: str | None, out: Path) -> tuple[str, ...]:
    """Return the formats to write, after checking that they can be written."""
    from reportgen.render.writer import FORMATS, check_directory, check_formats, possible_formats

    wanted = split_names(formats) if formats else FORMATS
    check_formats(wanted)
    check_directory(out)
    if formats is not None:
        possible_formats(wanted, require_pdf=True)
    return wanted


def _report(task: _Task) -> None:
    from reportgen.api import explain
    from reportgen.render.writer import write_report

    required = task.chosen and "pdf" in task.formats
    foreseen = None if task.quiet else _announce
    with _progress(task.quiet, _stages(task.options)) as started:
        explanation = explain(task.models[0], task.images[0], task.options, started, foreseen)
        started("writing")
        written = write_report(
            explanation.report, explanation.arrays, task.out, task.formats, require_pdf=required
        )
    _explain_missing_pdf(task, written)
    if not task.quiet:
        _summary(explanation.report, written)


def _survey(task: _Task) -> None:
    from reportgen.api import survey
    from reportgen.render.writer import possible_formats

    formats = possible_formats(task.formats, require_pdf=False)
    foreseen = None if task.quiet else _announce
    with _progress(task.quiet, len(task.images)) as started:
        found = survey(task.models, task.images, task.out, task.options, formats, started, foreseen)
    _explain_missing_pdf(task, found.files)
    if not task.quiet:
        _survey_summary(found.survey, found.files)


def _foresee(models: list[str], images: list[str], options: Config) -> None:
    """Print what each model's reports will cost, by method and metric."""
    from reportgen.api import foresee
    from reportgen.outlook import table

    for model in models:
        if len(models) > 1:
            print(f"{model}:")
        print(table(foresee(model, images, options)))


def _announce(found: Forecast) -> None:
    from reportgen.outlook import line

    print(f"reportgen: {line(found)}", file=sys.stderr)


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


_DRY_RUN = inspect.Parameter(
    "dry_run",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--dry-run", help="Say what it will cost, and stop there.")
    ],
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each field of Config, so that options stand in one table."""
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    flags = [_DRY_RUN, *(_flag(name) for name in Config.model_fields)]
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


def _check_paths(models: list[str], images: list[str]) -> None:
    # Before torch is imported, so that a mistyped path is refused at once.
    for model in models:
        if ":" not in model and not Path(model).exists():
            raise ModelError(f"There is no model file '{model}'; give the path of one.")
    if not any(Path(image).exists() for image in images):
        raise ImageError(f"There is no picture '{images[0]}'; give the path of one.")


@contextmanager
def _progress(quiet: bool, stages: int) -> Iterator[Started]:
    """Yield what hears of each stage: a bar on a terminal, plain lines elsewhere, or nothing."""
    if quiet:
        yield lambda stage: None
    elif not sys.stderr.isatty():
        yield lambda stage: print(f"reportgen: {stage}", file=sys.stderr)
    else:
        with _bar(stages) as started:
            yield started


def _stages(options: Config) -> int:
    """Return how many stages a report has, as far as the options tell."""
    return len(split_names(options.methods)) + len(split_names(options.metrics)) + 2


@contextmanager
def _bar(stages: int) -> Iterator[Started]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=stages + 1)

        def started(stage: str) -> None:
            progress.update(task, description=stage, advance=1)

        yield started


def _explain_missing_pdf(task: _Task, written: tuple[Path, ...]) -> None:
    if "pdf" not in task.formats or any(path.suffix == ".pdf" for path in written):
        return
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


def _survey_summary(survey: Survey, written: tuple[Path, ...]) -> None:
    from reportgen.render.survey_numbers import numbers_of
    from reportgen.render.survey_text import summary

    for sentence in summary(numbers_of(survey)):
        print(sentence)
    for line in dict.fromkeys(f"{entry.image}: {entry.reason}" for entry in survey.failed):
        print(line)
    for path in written:
        print(path)


app.command("explain")(_with_options(_explain))


@app.command()
def render(
    report: Annotated[Path, typer.Argument(help="A report.json with its maps.npz beside it.")],
    formats: Annotated[str, typer.Option("--format", help="What to write.")] = "html,pdf",
) -> None:
    """Make HTML and PDF again from report.json, without the model; of a survey too."""
    from reportgen.render.survey_reader import is_survey
    from reportgen.render.survey_writer import render_survey
    from reportgen.render.writer import render_files

    draw = render_survey if is_survey(report) else render_files
    for path in draw(report, split_names(formats)):
        print(path)


@app.command()
def methods() -> None:
    """List the attribution methods with their cards."""
    from reportgen.attribution import METHODS

    for method in METHODS.values():
        card = method.card
        print(f"{card.key}: {card.title} ({card.category}; needs {card.needs})")
        agnostic = ", class-agnostic" if card.class_agnostic else ""
        options = ", ".join(f"--{name.replace('_', '-')}" for name in method.options)
        print(f"    {card.definition}\n    {card.paper}")
        print(f"    Granularity: {card.granularity}{agnostic}. Options: {options or 'none'}.")
        print(f"    {card.limits}")


@app.command()
def metrics() -> None:
    """List the metrics with their cards: the metric dictionary."""
    from reportgen.metrics import METRICS

    for metric in METRICS.values():
        card = metric.card
        print(f"{card.key}: {card.title} ({card.category}; needs {card.needs})")
        print(f"    {card.definition}\n    {card.paper}")
        for quantity in card.quantities:
            print(f"    - {quantity.title}: {quantity.direction}. {quantity.meaning}".rstrip())
        print(f"    Beside control maps: {card.controls}.\n    {card.limits}")


@app.command()
def parameters(
    report: Annotated[Path, typer.Argument(help="A report.json with its maps.npz beside it.")],
    method: Annotated[str, typer.Argument(help="A method that the report has a map of.")],
) -> None:
    """Print the options behind one map of a report, as a TOML file for --config."""
    from reportgen.parameters import parameters_of
    from reportgen.render.reader import read_report

    print(parameters_of(read_report(report)[0], method), end="")


@app.command()
def schema(
    survey: Annotated[bool, typer.Option(help="The schema of a survey's report.json.")] = False,
) -> None:
    """Print the JSON schema of report.json."""
    from reportgen.records import json_schema
    from reportgen.surveys.records import survey_schema

    print(json.dumps(survey_schema() if survey else json_schema(), indent=2, sort_keys=True))
