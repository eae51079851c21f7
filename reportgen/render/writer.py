"""Writing a report: all its files at once or none, the manifest last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reportgen.errors import OutputError, unknown_name
from reportgen.records import Report
from reportgen.render import manifest
from reportgen.render.archive import pack
from reportgen.render.encoding import encode_json
from reportgen.render.reader import ARRAYS, parse_report, read_manifest, read_report
from reportgen.render.staging import publish
from reportgen.render.table import NAME as TABLE
from reportgen.render.table import table_of

FORMATS = ("json", "csv", "html", "pdf")
DATA = "report.json"
PAGES = {"html": "report.html", "pdf": "report.pdf"}
OWN = (DATA, ARRAYS, TABLE, *PAGES.values())

Arrays = Mapping[str, NDArray[Any]]


def write_report(
    report: Report,
    arrays: Arrays,
    directory: Path,
    formats: Collection[str] = FORMATS,
    require_pdf: bool = False,
) -> tuple[Path, ...]:
    """Write a report into ``directory`` and return the files, the manifest last.

    ``report.json`` and ``maps.npz`` are always written; "csv", "html" and "pdf" in ``formats`` add
    their files. A report that is there already is replaced only when the new one is whole; other
    files are left alone. Without Pango the PDF is left out, or, with ``require_pdf``, OutputError
    raised.
    Raises UsageError for an unknown format, OutputError where nothing can be written.
    """
    check_formats(formats)
    check_directory(directory)
    data = encode_json(report.model_dump(mode="json"))
    # Drawn from what is written, so that drawing it again gives the same bytes.
    written = parse_report(data, DATA)
    pages = _pages(written, arrays, data, possible_formats(formats, require_pdf))
    return _publish(directory, {DATA: data, ARRAYS: pack(arrays), **pages})


def render_files(path: Path, formats: Collection[str] = ("html", "pdf")) -> tuple[Path, ...]:
    """Draw the report in ``path`` again, beside it, and return the files that were written.

    The report and its arrays stay as they are, and so does a format that was not asked for. Raises
    what ``read_report`` and ``write_report`` raise.
    """
    check_formats(formats)
    report, arrays = read_report(path)
    wanted = possible_formats(formats, require_pdf=True)
    return _add(path, _pages(report, arrays, path.read_bytes(), wanted))


def check_formats(formats: Collection[str]) -> None:
    """Raise UsageError for a format that does not exist."""
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)


def check_directory(directory: Path) -> None:
    """Raise OutputError where ``directory`` is a file or lies where nobody may look."""
    try:
        is_file = directory.exists() and not directory.is_dir()
    except OSError as error:
        raise refused(directory, error) from None
    if is_file:
        raise OutputError(
            f"Expected a directory for the report, but '{directory}' is a file; name another place."
        )


def possible_formats(formats: Collection[str], require_pdf: bool) -> Collection[str]:
    """Return the formats that can be made here.

    Raises OutputError where a PDF is required and Pango is missing.
    """
    if "pdf" not in formats:
        return formats
    from reportgen.render.pdf import pdf_obstacle

    obstacle = pdf_obstacle()
    if obstacle and require_pdf:
        raise OutputError(obstacle)
    return [name for name in formats if name != "pdf" or not obstacle]


def _pages(
    report: Report, arrays: Arrays, data: bytes, formats: Collection[str]
) -> dict[str, bytes]:
    """Return the table and the pages by file name; the PDF is laid out from the HTML."""
    table = {TABLE: table_of(report)} if "csv" in formats else {}
    if not set(formats) & set(PAGES):
        return table
    from reportgen.render.html import to_html

    html = to_html(report, arrays)
    pages = {"html": html.encode("utf-8")} if "html" in formats else {}
    if "pdf" in formats:
        from reportgen.render.pdf import to_pdf

        pages["pdf"] = to_pdf(html, report.run.created, data)
    return {**table, **{PAGES[name]: content for name, content in pages.items()}}


def _publish(directory: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    """Put a new report in place; pages of an older one that the new one lacks are removed."""
    listed = manifest.manifest_of(files)
    obsolete = [name for name in OWN if name not in files]
    return _put(directory, {**files, manifest.NAME: listed.encoded()}, obsolete)


def _add(path: Path, pages: dict[str, bytes]) -> tuple[Path, ...]:
    """Put new pages beside a report, and add them to its manifest."""
    old = read_manifest(path.parent)
    before = old.files if old else manifest.manifest_of(_data_beside(path)).files
    present = {name: entry for name, entry in before.items() if path.with_name(name).exists()}
    files = {**present, **manifest.manifest_of(pages).files}
    listed = manifest.Manifest(files=files)
    return _put(path.parent, {**pages, manifest.NAME: listed.encoded()}, ())


def _data_beside(path: Path) -> dict[str, bytes]:
    return {name: path.with_name(name).read_bytes() for name in (path.name, ARRAYS)}


def _put(directory: Path, files: dict[str, bytes], obsolete: Collection[str]) -> tuple[Path, ...]:
    try:
        publish(directory, files, obsolete)
    except OSError as error:
        raise refused(directory, error) from None
    return tuple(directory / name for name in files)


def refused(directory: Path, error: OSError) -> OutputError:
    """Return the error for a directory that the file system will not have written."""
    return OutputError(
        f"The report cannot be written to '{directory}' ({error.strerror or error}); name a "
        "directory that can be written and has room."
    )
