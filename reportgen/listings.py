"""What prints what there is: version, methods, metrics, layers, options of a report, schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reportgen.layer_records import LayerCandidate, LayerChoice


def _print_version(wanted: bool) -> None:
    if wanted:
        from reportgen import __version__

        print(f"reportgen {__version__}")
        raise typer.Exit


def every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Turn an image classifier and a picture into a Model Explainability Report."""


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


def print_layers(choice: LayerChoice) -> None:
    """Print the layers that class activation maps can look at, the last first, with self-tests."""
    for candidate in choice.candidates:
        _print_layer(candidate, choice)
    if choice.noise_mean is not None:
        print(
            f"Removal scores of {choice.noise_maps} smooth random maps: {choice.noise_mean:.2f} ± "
            f"{choice.noise_sd:.2f}; a layer passes with more than twice that spread."
        )
    if choice.reason:
        print(f"Class activation maps do not apply: {choice.reason}.")


def _print_layer(candidate: LayerCandidate, choice: LayerChoice) -> None:
    from reportgen.facts import layer_failings

    role = {choice.chosen: " (chosen)", choice.runner_up: " (runner-up)"}.get(candidate.name, "")
    tokens = "token" if candidate.prefix == 1 else "tokens"
    prefix = f" behind {candidate.prefix} {tokens} of no place" if candidate.prefix else ""
    print(f"{candidate.name}{role}")
    print(
        f"    {candidate.height}x{candidate.width} places, {candidate.channels} channels, "
        f"{candidate.layout}{prefix}"
    )
    failings = layer_failings(candidate)
    undecided = [check.key for check in candidate.checks if check.outcome == "undecided"]
    said = [f"fails: {'; '.join(failings)}"] if failings else []
    said += [f"cannot be told: {', '.join(undecided)}"] if undecided else []
    said = said or ["passes"]
    removal = candidate.check("removal")
    if removal and removal.value is not None:
        said.append(f"removal score {removal.value:.2f}")
    print(f"    {'; '.join(said)}")


def parameters(
    report: Annotated[Path, typer.Argument(help="A report.json with its maps.npz beside it.")],
    method: Annotated[str, typer.Argument(help="A method that the report has a map of.")],
) -> None:
    """Print the options behind one map of a report, as a TOML file for --config."""
    from reportgen.parameters import parameters_of
    from reportgen.render.reader import read_report

    print(parameters_of(read_report(report)[0], method), end="")


def schema(
    survey: Annotated[bool, typer.Option(help="The schema of a survey's report.json.")] = False,
) -> None:
    """Print the JSON schema of report.json."""
    from reportgen.records import json_schema
    from reportgen.surveys.records import survey_schema

    print(json.dumps(survey_schema() if survey else json_schema(), indent=2, sort_keys=True))
