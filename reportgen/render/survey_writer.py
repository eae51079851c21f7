"""Writing a survey: the record, then its pages, then the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

from reportgen.render import manifest, survey_reader
from reportgen.render.encoding import encode_json
from reportgen.render.reader import read_manifest
from reportgen.render.staging import publish
from reportgen.render.survey_pictures import Verdicts, looked_at, shown_places
from reportgen.render.table import COLUMNS, Row, encoded, failed_row, rows_of
from reportgen.render.table import NAME as TABLE
from reportgen.render.writer import DATA, PAGES, check_formats, possible_formats, refused
from reportgen.surveys.records import Survey


def fill_survey(survey: Survey, stage: Path, formats: Collection[str]) -> tuple[str, ...]:
    """Write the record, pages and manifest of a survey into the folder that holds its reports.

    ``formats`` are some that can be made here. Returns the names of the survey's own files, the
    manifest last.
    """
    data = encode_json(survey.model_dump(mode="json"))
    # Drawn from what is written, so that drawing it again gives the same bytes.
    written = survey_reader.parse_survey(data, DATA)
    files = {DATA: data, **_pages(written, stage, data, formats)}
    for name, content in files.items():
        (stage / name).write_bytes(content)
    listed = manifest.Manifest(
        files={**manifest.manifest_of(files).files, **_beside(survey, stage)}
    )
    (stage / manifest.NAME).write_bytes(listed.encoded())
    table = [TABLE] if (stage / TABLE).exists() else []
    return (DATA, *table, *(name for name in files if name != DATA), manifest.NAME)


def render_survey(path: Path, formats: Collection[str] = ("html", "pdf")) -> tuple[Path, ...]:
    """Draw the survey in ``path`` again, beside it, and return the files that were written.

    The reports of its pictures stay as they are. Raises OutputError for what cannot be read, or
    where a PDF is asked for and Pango is missing; UsageError for an unknown format.
    """
    check_formats(formats)
    survey, folder = survey_reader.read_survey(path), path.parent
    wanted = possible_formats(formats, require_pdf=True)
    pages = _pages(survey, folder, path.read_bytes(), wanted)
    if "csv" in wanted:
        pages[TABLE] = encoded(_rows(survey, folder))
    old = read_manifest(folder)
    before = old.files if old else {}
    listed = manifest.Manifest(files={**before, **manifest.manifest_of(pages).files})
    files = {**pages, manifest.NAME: listed.encoded()}
    try:
        publish(folder, files)
    except OSError as error:
        raise refused(folder, error) from None
    return tuple(folder / name for name in files)


def _pages(survey: Survey, folder: Path, data: bytes, formats: Collection[str]) -> dict[str, bytes]:
    """Return the pages by file name; ``data`` is attached to the PDF."""
    if not set(formats) & set(PAGES):
        return {}
    from reportgen.render.survey_html import to_survey_html

    printed = "pdf" in formats
    verdicts = _verdicts(survey, folder, printed)
    pages = {}
    if "html" in formats:
        pages[PAGES["html"]] = to_survey_html(survey, verdicts, printed=False).encode("utf-8")
    if printed:
        from reportgen.render.pdf import to_pdf

        html = to_survey_html(survey, verdicts, printed=True)
        pages[PAGES["pdf"]] = to_pdf(html, survey.run.created, data)
    return pages


def _verdicts(survey: Survey, folder: Path, printed: bool) -> Verdicts:
    """Return the first page of each report that is shown, one read at a time."""
    return {
        (entry.number, entry.model): looked_at(*survey_reader.read_entry(folder, entry))
        for entry in shown_places(survey, printed)
    }


def _rows(survey: Survey, folder: Path) -> Iterator[Row]:
    yield COLUMNS
    for entry in survey.entries:
        if entry.folder:
            report, _ = survey_reader.read_entry(folder, entry)
            yield from rows_of(report, entry.model, entry.image)
        else:
            yield failed_row(entry.model, entry.image, entry.reason)


def _beside(survey: Survey, stage: Path) -> dict[str, manifest.FileRecord]:
    """Return what the manifest says of the table, and of the manifest of each report."""
    names = [f"{entry.folder}/{manifest.NAME}" for entry in survey.reported]
    present = [name for name in (TABLE, *names) if (stage / name).exists()]
    return {name: _described(stage / name) for name in present}


def _described(path: Path) -> manifest.FileRecord:
    # The table may be large, so it is not read into memory.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return manifest.FileRecord(sha256=digest, size=path.stat().st_size)
