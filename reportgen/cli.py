"""The command line: arguments to options, errors to exit codes, and what is printed of a run.

Exit codes: 0 done; 1 a fault of reportgen; 2 options; 3 the model; 4 the picture; 5 the output;
130 interrupted.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reportgen.allocator import keep_memory
from reportgen.config import Config, load_config, split_names
from reportgen.errors import ImageError, ModelError, ReportgenError, UsageError
from reportgen.flags import flags_given, with_flags
from reportgen.listings import every_command, methods, metrics, parameters, print_layers, schema
from reportgen.phrases import ENGLISH, speaking
from reportgen.progress import Started, progress

if TYPE_CHECKING:
    from reportgen.api import Explanation
    from reportgen.pipeline import Arrays
    from reportgen.preflight import Forecast
    from reportgen.records import Report
    from reportgen.surveys.records import Survey

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.callback()(every_command)
_INTERRUPTED = 130
# What pack wants to know about a model.
_OF_A_MODEL = (
    "arch", "labels", "size", "resize", "interpolation", "mean", "std", "channel_order", "head",
    "temperature", "output", "weights", "allow_download", "trust_pickle",
)  # fmt: skip


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
            help="A model: a file (.pt, .pth, .safetensors, .pt2, .onnx), a folder of transformers "
            "or timm, hf:NAME, timm:NAME or torchvision:NAME, unless --model names one; then "
            "pictures, or folders of them.",
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
    images/. Several targets make a report each, in a folder each, and index.html to all of them.
    """
    options = load_config(config, flags_given(context))
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
    """What the command line asks for; ``chosen`` where ``formats`` are those that it names."""

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
    from reportgen.api import explain_each
    from reportgen.render.target_folders import write_reports

    required = task.chosen and "pdf" in task.formats
    foreseen = None if task.quiet else _announce
    reports: list[Report] = []
    with progress(task.quiet, _stages(task.options)) as started:
        found = explain_each(task.models[0], task.images[0], task.options, started, foreseen)
        made = _passing(found, reports, started)
        with speaking(task.options.language, task.options.templates):
            written = write_reports(made, task.out, task.formats, require_pdf=required)
    _explain_missing_pdf(task, written)
    if not task.quiet:
        _summary(reports, written)


def _passing(
    found: Iterator[Explanation], reports: list[Report], started: Started
) -> Iterator[tuple[Report, Arrays]]:
    """Hand on each report with its arrays, and keep the reports alone."""
    for explanation in found:
        reports.append(explanation.report)
        started("writing")
        yield explanation.report, explanation.arrays


def _survey(task: _Task) -> None:
    from reportgen.api import survey
    from reportgen.render.writer import possible_formats

    formats = possible_formats(task.formats, require_pdf=False)
    foreseen = None if task.quiet else _announce
    with progress(task.quiet, len(task.images)) as started:
        found = survey(task.models, task.images, task.out, task.options, formats, started, foreseen)
    _explain_missing_pdf(task, found.files)
    if not task.quiet:
        with speaking(task.options.language, task.options.templates):
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


def _check_paths(models: list[str], images: list[str]) -> None:
    # Before torch is imported, so that a mistyped path is refused at once.
    for model in models:
        if ":" not in model and not Path(model).exists():
            raise ModelError(
                f"There is no model file '{model}'; give the path of one, or hf:NAME for a name on "
                "the Hugging Face hub."
            )
    if images and not any(Path(image).exists() for image in images):
        raise ImageError(f"There is no picture '{images[0]}'; give the path of one.")


def _stages(options: Config) -> int:
    """Return how many stages a report has, as far as the options tell."""
    asked = split_names(options.methods) + split_names(options.metrics)
    return len(asked) + 2 + bool(options.narrator)


def _explain_missing_pdf(task: _Task, written: tuple[Path, ...]) -> None:
    if "pdf" not in task.formats or any(path.suffix == ".pdf" for path in written):
        return
    from reportgen.render.pdf import pdf_obstacle

    print(f"reportgen: {pdf_obstacle()}", file=sys.stderr)


def _summary(reports: list[Report], written: tuple[Path, ...]) -> None:
    _model_lines(reports[0])
    for report in reports:
        _report_lines(report, len(reports) > 1)
    for path in written:
        print(path)


def _report_lines(report: Report, several: bool) -> None:
    from reportgen.render.narrated import narration_lines

    facts = {fact.name: fact.text for fact in report.facts}
    if several or report.prediction.target_source != "top class":
        label, probability = facts["prediction.label"], facts["prediction.probability"]
        print(f"Explained: {label}, {probability}")
    if "layer.name" in facts:
        print(_layer_line(facts))
    if report.verdict is not None:
        print(report.verdict.text)
    for finding in report.findings:
        if finding.severity in ("problem", "caution"):
            print(f"{finding.severity}: {finding.statement}")
    for line in narration_lines(report.narration):
        print(line)


def _layer_line(facts: dict[str, str]) -> str:
    line = f"layer: {facts['layer.name']} ({facts['layer.grid']})"
    runner_up = facts.get("layer.runner_up.name")
    return f"{line}, runner-up {runner_up}" if runner_up else line


def _model_lines(report: Report) -> None:
    facts = {fact.name: fact.text for fact in report.facts}
    print(f"{facts['prediction.top1.label']}, {facts['prediction.top1.probability']}")
    print(f"{facts['model.architecture']}; {facts['model.head']}; on {facts['model.device']}")
    assumed = report.fact("model.assumed")
    if assumed and assumed.value:
        print(f"Assumed: {facts['model.assumed']}.")


def _survey_summary(survey: Survey, written: tuple[Path, ...]) -> None:
    from reportgen.render.survey_numbers import numbers_of
    from reportgen.render.survey_text import summary, verdict

    numbers = numbers_of(survey)
    for told in (verdict(numbers), *summary(numbers)):
        print(told.text)
    for line in dict.fromkeys(f"{entry.image}: {entry.reason}" for entry in survey.failed):
        print(line)
    for path in written:
        print(path)


_DRY_RUN = inspect.Parameter(
    "dry_run",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--dry-run", help="Say what it will cost, and stop there.")
    ],
)
app.command("explain")(with_flags(_explain, Config.model_fields, _DRY_RUN))


def _pack(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model, as explain takes it.")],
    picture: Annotated[
        str | None, typer.Argument(help="A picture to compare both on, beside noise.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path(
        "model.pt2"
    ),
    config: Annotated[Path | None, typer.Option(help="A TOML file with options.")] = None,
    **_: Any,
) -> None:
    """Make one safe file of a model that needs no further flag: the network and its description.

    It is opened again and compared with the original before it is left at its place.
    """
    options = load_config(config, flags_given(context))
    _check_paths([model], [])
    from reportgen.api import pack

    packed = pack(model, out, options, picture)
    print(f"{packed.path}: {packed.size} bytes, SHA-256 {packed.sha256}")
    print(
        f"Opened again without trust: on {packed.pictures} pictures its predictions differ from "
        f"the original's by at most {packed.difference:.1g}."
    )
    if packed.fixed_batch is not None:
        print(f"It takes batches of {packed.fixed_batch} only, as its code allows no other size.")
    print(f"Assumed, not known: {', '.join(packed.assumed) or 'nothing'}.")


app.command("pack")(with_flags(_pack, _OF_A_MODEL))


def _layers(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model, as explain takes it.")],
    picture: Annotated[
        str | None, typer.Argument(help="A picture; a photograph of a cat if not given.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with options.")] = None,
    **_: Any,
) -> None:
    """List the layers that class activation maps can look at, the last first, with self-tests."""
    options = load_config(config, flags_given(context))
    _check_paths([model], [] if picture is None else [picture])
    from reportgen.api import layers

    print_layers(layers(model, picture, options))


app.command("layers")(with_flags(_layers, (*_OF_A_MODEL, "device", "target", "layer")))


@app.command()
def render(
    report: Annotated[Path, typer.Argument(help="A report.json with its maps.npz beside it.")],
    formats: Annotated[str, typer.Option("--format", help="What to write.")] = "html,pdf",
    templates: Annotated[str, typer.Option(help=Config.model_fields["templates"].description)] = "",
) -> None:
    """Make HTML and PDF again from report.json, without the model; of a survey too."""
    from reportgen.render.survey_reader import is_survey
    from reportgen.render.survey_writer import render_survey
    from reportgen.render.writer import render_files

    draw = render_survey if is_survey(report) else render_files
    with speaking(ENGLISH, templates):  # the report says which language it is drawn in
        for path in draw(report, split_names(formats)):
            print(path)


for _command in (methods, metrics, parameters, schema):
    app.command()(_command)
