"""The parameters of one method in a report, as a configuration file that makes its map again."""

from __future__ import annotations

import json

from pydantic import JsonValue

from reportgen.attribution import METHODS
from reportgen.errors import UsageError, unknown_name
from reportgen.records import Prediction, Report


def parameters_of(report: Report, method: str) -> str:
    """Return the options behind the map of ``method`` as TOML, for ``--config``.

    With the model and the picture of the report, they give the same map. Raises UsageError for a
    method that does not exist, or that the report has no map of.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    attribution = report.attribution(method)
    if attribution is None:
        known = ", ".join(a.method for a in report.attributions) or "no map at all"
        raise UsageError(f"The report has no map of '{method}'; it has {known}.")
    config = report.provenance.config
    options: dict[str, JsonValue] = {name: config[name] for name in METHODS[method].options}
    fixed: dict[str, JsonValue] = {
        "methods": method,
        "seed": report.provenance.seed,
        "target": _target(report.prediction),
    }
    made = f"{_plain(report.image.name)} by {_plain(report.model.name)}"
    weights = (report.model.weights_sha256 or "unknown")[:16]
    header = f"# {attribution.card.title} of {made}, weights {weights}."
    given = {name: value for name, value in {**fixed, **options}.items() if value is not None}
    return "\n".join([header, *(_line(name, value) for name, value in given.items()), ""])


def _target(prediction: Prediction) -> str:
    contrast = prediction.contrast
    if contrast is None:
        return str(prediction.target.index)
    return f"contrast:{contrast.first.index},{contrast.second.index}"


def _line(name: str, value: JsonValue) -> str:
    # JSON's strings, numbers and booleans are written as TOML's are.
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _plain(name: str) -> str:
    # A name is data: a line break in it must not end the comment.
    return "".join(character if character.isprintable() else "?" for character in name)
