"""Reports on several targets of one picture: a folder for each, and a page that leads to them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reportgen.errors import OutputError
from reportgen.facts.formats import counted, probability
from reportgen.phrases import phrase
from reportgen.records import Report
from reportgen.render import manifest
from reportgen.render.document import shortened
from reportgen.render.html import environment
from reportgen.render.reader import read_manifest
from reportgen.render.survey_folder import INDEX, OWN, staged
from reportgen.render.writer import DATA, FORMATS, PAGES, write_report
from reportgen.render.writer import OWN as SINGLE

Arrays = Mapping[str, NDArray[Any]]

_ALONE = (*SINGLE, manifest.NAME)
_ADDRESS = re.compile(r'href="(\d{2,}-[A-Za-z0-9._-]+)/[^"/]+"')
_FOLDER = re.compile(r"\d{2,}-")
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_LABEL = 40
_TEXT = 80
_OURS = '<meta name="generator" content="reportgen '


@dataclass(frozen=True)
class TargetLine:
    """One report on the page: where it lies, what it explains, and what was found."""

    address: str
    label: str
    probability: str
    found: str


@dataclass(frozen=True)
class TargetPage:
    """The page that leads to the reports."""

    title: str
    model: str
    image: str
    created: str
    generator: str
    lines: tuple[TargetLine, ...]


def write_reports(
    found: Iterable[tuple[Report, Arrays]],
    directory: Path,
    formats: Collection[str] = FORMATS,
    require_pdf: bool = False,
) -> tuple[Path, ...]:
    """Write each report into a folder of ``directory``, and the page ``index.html`` to all of them.

    The folders are called by rank and label. A single report is written as by ``write_alone``.
    One report is in memory while the next is made, no more. What stood there before is replaced
    when all reports are whole. Returns the files, the page first; raises as ``write_report``.
    """
    reports = iter(found)
    first = next(reports)
    second = next(reports, None)
    if second is None:
        return write_alone(*first, directory, formats, require_pdf)
    with staged(directory, _replaced(directory)) as stage:
        lines: list[TargetLine] = []
        files: list[Path] = []
        for folder, report, arrays in _placed(chain((first, second), reports)):
            written = write_report(report, arrays, stage / folder, formats, require_pdf)
            files.extend(path.relative_to(stage) for path in written)
            lines.append(_line(folder, report, {path.name for path in written}))
        page = _page(first[0], tuple(lines))
        html = environment().get_template("targets.html.j2").render(page=page)
        (stage / INDEX).write_bytes(html.encode("utf-8"))
    return (directory / INDEX, *(directory / path for path in files))


def write_alone(
    report: Report,
    arrays: Arrays,
    directory: Path,
    formats: Collection[str] = FORMATS,
    require_pdf: bool = False,
) -> tuple[Path, ...]:
    """Write one report into ``directory`` itself, as ``write_report`` does.

    It also takes the place of reports on several targets: their page, and those of their folders in
    which nobody has put anything else.
    """
    several = _several(directory)
    if not several:
        return write_report(report, arrays, directory, formats, require_pdf)
    with staged(directory, (*_ALONE, *several)) as stage:
        files = write_report(report, arrays, stage, formats, require_pdf)
    return tuple(directory / path.name for path in files)


def _several(directory: Path) -> tuple[str, ...]:
    """Return the page to several reports in ``directory`` and its folders; nothing where none is.

    Only the page says which folders are its own; others may be called alike.
    """
    page = directory / INDEX
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    names = dict.fromkeys(_ADDRESS.findall(text)) if _OURS in text else {}
    return (INDEX, *(name for name in names if _untouched(directory / name))) if names else ()


def _untouched(folder: Path) -> bool:
    """Return whether a folder holds what its manifest lists, and nothing else."""
    try:
        listed = None if folder.is_symlink() else read_manifest(folder)
    except OutputError:
        return False
    known = {manifest.NAME, *listed.files} if listed else set()
    return listed is not None and {path.name for path in folder.iterdir()} <= known


def _placed(found: Iterable[tuple[Report, Arrays]]) -> Iterator[tuple[str, Report, Arrays]]:
    for rank, (report, arrays) in enumerate(found, start=1):
        plain = _PLAIN.sub("_", report.prediction.target.label)[:_LABEL].strip("._")
        yield f"{str(rank).zfill(2)}-{plain or 'target'}", report, arrays


def _replaced(directory: Path) -> tuple[str, ...]:
    """Return the names in ``directory`` that these reports replace.

    Raises OutputError for an ``index.html`` that is somebody else's.
    """
    if not directory.is_dir():
        return OWN
    page = directory / INDEX
    if page.exists() and _OURS not in page.read_text(encoding="utf-8", errors="replace"):
        raise OutputError(
            f"Expected the page of several reports in '{page}', but it is something else; name "
            "another place for these reports."
        )
    folders = (path for path in directory.iterdir() if _FOLDER.match(path.name))
    return (*OWN, INDEX, *(path.name for path in folders if (path / DATA).is_file()))


def _line(folder: str, report: Report, files: set[str]) -> TargetLine:
    severities = [finding.severity for finding in report.findings]
    problems, cautions = (severities.count(kind) for kind in ("problem", "caution"))
    name = next((page for page in PAGES.values() if page in files), DATA)
    return TargetLine(
        address=f"{folder}/{name}",
        label=shortened(report.prediction.target.label, _TEXT),
        probability=probability(report.prediction.target.probability),
        found=f"{counted(problems, 'problem')}, {counted(cautions, 'caution')}",
    )


def _page(report: Report, lines: tuple[TargetLine, ...]) -> TargetPage:
    return TargetPage(
        title=phrase("report.titles"),
        model=shortened(report.model.name, _TEXT),
        image=shortened(report.image.name, _TEXT),
        created=report.run.created,
        generator=f"reportgen {report.provenance.reportgen}",
        lines=lines,
    )
