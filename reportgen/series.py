"""Many pictures and many models, one after another: each report is written before the next is made.

Of a report that is written only a row of numbers is kept, so memory does not grow with the maps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from reportgen.classifier.classifier import Classifier
from reportgen.classifier.metadata import Hints
from reportgen.classifier.opened import Opened
from reportgen.classifier.targets import check_single
from reportgen.config import Config
from reportgen.errors import MisfitError, ReportgenError, UsageError, failure_reason
from reportgen.image import Picture
from reportgen.mask import mask_for
from reportgen.narrative.narration import Narrate, narrating
from reportgen.pipeline import Foreseen, Started, made_ready, report_on
from reportgen.records import Report, Run
from reportgen.render import table
from reportgen.render.survey_folder import PICTURES, staged
from reportgen.render.survey_writer import fill_survey
from reportgen.render.writer import FORMATS, check_formats, possible_formats, write_report
from reportgen.surveys.records import Entry, Survey
from reportgen.surveys.survey import survey_of
from reportgen.surveys.tally import Tally, entry_of

_STEM = 40
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Contender:
    """An opened model and what the user said about it; ``key`` is its name in the survey."""

    key: str
    opened: Opened
    given: Hints


@dataclass(frozen=True)
class Ready:
    """A model ready to explain pictures, by its name in the survey."""

    key: str
    classifier: Classifier


@dataclass(frozen=True)
class Candidate:
    """A picture still to be opened: its name, and what opens it or raises ImageError."""

    name: str
    open: Callable[[], Picture]


@dataclass(frozen=True)
class Wanted:
    """What a survey is to write, and where; ``passed_over`` files were taken for no pictures."""

    directory: Path
    formats: Collection[str] = FORMATS
    require_pdf: bool = False
    passed_over: int = 0


@dataclass
class _Walk:
    """A survey on its way."""

    contenders: Sequence[Ready]
    config: Config
    stage: Path
    formats: Collection[str]
    file: IO[bytes] | None
    narrate: Narrate
    foreseen: Foreseen | None
    pictures: int = 0
    told: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)


def run_series(
    contenders: Sequence[Contender],
    candidates: Sequence[Candidate],
    config: Config,
    wanted: Wanted,
    started: Started = lambda stage: None,
    foreseen: Foreseen | None = None,
) -> tuple[Survey, tuple[Path, ...]]:
    """Explain each picture with each model; return the survey and the files that it wrote.

    A picture that cannot be explained becomes an entry with the reason. ``started`` hears of each
    report that is begun, ``foreseen`` of what each model will cost, before its first. Raises
    ModelError and UsageError for a model or an option that cannot be used, before any picture where
    that can be seen; ImageError where no picture could be explained; OutputError for what cannot be
    written. Then nothing is written, and what was there stays.
    """
    check_formats(wanted.formats)
    formats = possible_formats(wanted.formats, wanted.require_pdf)
    begun, start = datetime.now(UTC), time.perf_counter()
    with staged(wanted.directory) as stage:
        place = stage / table.NAME
        with (
            narrating(config) as narrate,
            _made_ready(contenders, config) as ready,
            _table(place, formats) as file,
        ):
            pages = [f for f in formats if f == "html"]
            walk = _Walk(ready, config, stage, pages, file, narrate, foreseen)
            _walked(walk, candidates, started)
        started("summary")
        run = Run(
            created=begun.isoformat(timespec="seconds"),
            seconds={"total": time.perf_counter() - start},
        )
        survey = survey_of(walk.tally, wanted.passed_over, run)
        names = fill_survey(survey, stage, formats)
    return survey, tuple(wanted.directory / name for name in names)


@contextmanager
def _made_ready(contenders: Sequence[Contender], config: Config) -> Iterator[list[Ready]]:
    """Make all models ready, once for all pictures, and leave them as they were found.

    Raises ModelError or UsageError for the first that cannot be used as the options say.
    """
    with ExitStack() as stack:
        ready = []
        for contender in contenders:
            made = made_ready(contender.opened, contender.given, config)
            classifier = stack.enter_context(made)
            check_single(config.target, classifier.labels)
            ready.append(Ready(contender.key, classifier))
        yield ready


def contenders_of(opened: Sequence[tuple[Opened, Hints]]) -> list[Contender]:
    """Return the models under names of which no two are alike."""
    keys: list[str] = []
    for model, _ in opened:
        keys.append(_unused(model.name or model.architecture, keys, " ({})"))
    return [Contender(key, *one) for key, one in zip(keys, opened, strict=True)]


def _walked(walk: _Walk, candidates: Sequence[Candidate], started: Started) -> None:
    """Make all reports, write them, and take their numbers."""
    walk.pictures = len(candidates)
    for number, candidate in enumerate(candidates, start=1):
        started(f"{number} of {len(candidates)}: {candidate.name}")
        _visit(walk, number, candidate)


def _table(path: Path, formats: Collection[str]) -> AbstractContextManager[IO[bytes] | None]:
    """Return the open table, with its header, or nothing where none is wanted."""
    if "csv" not in formats:
        return nullcontext()
    file = path.open("wb")
    file.write(table.encoded([table.COLUMNS]))
    return file


def _visit(walk: _Walk, number: int, candidate: Candidate) -> None:
    """Explain one picture with every model."""
    folder = f"{PICTURES}/{number:04d}-{_plain(Path(candidate.name).stem)}"
    folders = _folders(folder, walk.contenders)
    try:
        picture = candidate.open()
        config = _with_mask(walk.config, picture)
    except ReportgenError as error:
        for contender in walk.contenders:
            place = Entry(number=number, image=candidate.name, model=contender.key)
            _fail(walk, place, str(error))
        return
    for contender in walk.contenders:
        place = Entry(
            number=number, image=picture.name, model=contender.key, folder=folders[contender.key]
        )
        _explain(walk, contender, picture, config, place)


def _with_mask(config: Config, picture: Picture) -> Config:
    if not config.mask:
        return config
    return config.model_copy(update={"mask": mask_for(config.mask, picture.name)})


def _explain(walk: _Walk, contender: Ready, picture: Picture, config: Config, place: Entry) -> None:
    try:
        foreseen = _telling(walk, contender.key)
        report, arrays = report_on(contender.classifier, picture, config, foreseen=foreseen)
        report = walk.narrate(report, lambda stage: None)
    except Exception as error:  # one picture never costs the user the others
        if isinstance(error, UsageError) and not isinstance(error, MisfitError):
            raise
        _fail(walk, place.model_copy(update={"folder": ""}), failure_reason(error))
        return
    write_report(report, arrays, walk.stage / place.folder, walk.formats)
    _keep(walk, place, report)


def _telling(walk: _Walk, key: str) -> Foreseen | None:
    """Return what tells, at a model's first report, the cost of all of them."""
    tell = walk.foreseen
    if tell is None or key in walk.told:
        return None
    walk.told.add(key)
    return lambda one: tell(replace(one, pictures=walk.pictures))


def _keep(walk: _Walk, place: Entry, report: Report) -> None:
    walk.tally.add(entry_of(place, report), report)
    if walk.file:
        walk.file.write(table.encoded(table.rows_of(report, place.model, place.image)))


def _fail(walk: _Walk, place: Entry, reason: str) -> None:
    walk.tally.fail(place.model_copy(update={"reason": reason}))
    if walk.file:
        walk.file.write(table.encoded([table.failed_row(place.model, place.image, reason)]))


def _folders(folder: str, contenders: Sequence[Ready]) -> Mapping[str, str]:
    """Return where the report of each model goes: one model needs no folder of its own."""
    if len(contenders) == 1:
        return {contenders[0].key: folder}
    names: list[str] = []
    for contender in contenders:
        names.append(_unused(_plain(contender.key), names, "-{}"))
    return {
        contender.key: f"{folder}/{name}" for contender, name in zip(contenders, names, strict=True)
    }


def _plain(name: str) -> str:
    """Return a name that any file system takes, of letters, digits, points, dashes and bars."""
    return _PLAIN.sub("_", name)[:_STEM].strip("._") or "picture"


def _unused(name: str, taken: Collection[str], form: str) -> str:
    """Return ``name``, or, where it is taken, with the first number that makes it new."""
    folded = {other.casefold() for other in taken}
    numbers = range(2, len(taken) + 3)
    tries = (name, *(name + form.format(number) for number in numbers))
    return next(tried for tried in tries if tried.casefold() not in folded)
