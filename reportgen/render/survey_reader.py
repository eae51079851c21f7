"""Reading a survey back: its ``report.json``, and the reports of its pictures one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from reportgen.errors import OutputError
from reportgen.records import Report
from reportgen.render.reader import read_file, read_manifest, read_report
from reportgen.render.writer import DATA
from reportgen.surveys.records import SURVEY_VERSION, Entry, Survey

_KIND = SURVEY_VERSION.split("-")[0] + "-"


def is_survey(path: Path) -> bool:
    """Return whether the file ``path`` is that of a survey, of whatever version.

    Raises OutputError where it cannot be read; a file that is no JSON is no survey.
    """
    try:
        found = json.loads(read_file(path))
    except ValueError:
        return False
    return isinstance(found, dict) and str(found.get("schema_version", "")).startswith(_KIND)


def read_survey(path: Path) -> Survey:
    """Return the survey in the file ``path``.

    Where there is a manifest beside it, the file must be as it was written. Raises OutputError for
    a file that is missing, changed, of another schema version, or no survey.
    """
    content = read_file(path)
    listed = read_manifest(path.parent)
    if listed:
        listed.check(path.name, content)
    return parse_survey(content, path.name)


def parse_survey(content: bytes, name: str) -> Survey:
    """Return the survey in ``content``; ``name`` is the file's name for an error.

    Raises OutputError for another schema version, or where ``content`` is no survey.
    """
    try:
        return Survey.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(str(part) for part in first["loc"])
        raise OutputError(
            f"Expected a survey of schema version {SURVEY_VERSION} in '{name}', but '{place}' is "
            f"wrong: {first['msg']}; make the survey again."
        ) from None


def read_entry(folder: Path, entry: Entry) -> tuple[Report, dict[str, NDArray[Any]]]:
    """Return the report of an entry of the survey in ``folder``, and its arrays.

    Raises OutputError for an entry that leads out of the folder, and what ``read_report`` raises.
    """
    place = folder / entry.folder
    if not place.resolve().is_relative_to(folder.resolve()):
        raise OutputError(
            f"The survey names the report '{entry.folder}', which is not inside its own folder; "
            "make the survey again."
        )
    return read_report(place / DATA)
