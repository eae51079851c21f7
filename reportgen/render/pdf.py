"""A report as one PDF/A-3 file, laid out from the same HTML, with ``report.json`` attached.

WeasyPrint lays the pages out. It needs the system library Pango; nothing else of reportgen does.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType

from reportgen.errors import OutputError
from reportgen.silence import silenced

VARIANT = "pdf/a-3u"
LOGGERS = ("weasyprint", "fontTools")
MISSING = (
    "PDF needs the system library Pango, which was not found; install libpango-1.0-0 and "
    "libpangoft2-1.0-0 (Debian, Ubuntu), pango (Fedora; macOS with Homebrew), or leave PDF out."
)


def pdf_obstacle() -> str | None:
    """Return why no PDF can be made on this machine, in one sentence, or None where it can."""
    try:
        _weasyprint()
    except OutputError as error:
        return str(error)
    return None


def to_pdf(html: str, created: str, report_json: bytes) -> bytes:
    """Return the PDF of ``html``, the page of a report or survey ``created`` at that moment.

    ``created`` is a date and time in ISO 8601. ``report_json`` is attached under the name
    report.json. Nothing is fetched: pictures must be ``data:`` addresses. The same input gives the
    same bytes. Raises OutputError without Pango.
    """
    weasyprint = _weasyprint()
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    made = _moment(created)
    attachment = weasyprint.Attachment(
        file_obj=io.BytesIO(report_json),
        name="report.json",
        description="The report as data",
        created=made,
        modified=made,
        relationship="Source",
    )
    with _silence(), _uncollected():
        pages = weasyprint.HTML(string=html, url_fetcher=fetcher)
        content: bytes = pages.write_pdf(
            pdf_variant=VARIANT,
            pdf_identifier=hashlib.sha256(report_json).digest()[:16],
            attachments=[attachment],
        )
    return content


def _weasyprint() -> ModuleType:
    """Return WeasyPrint; it looks for Pango when it is imported."""
    try:
        # It prints advice where a library is missing; the sentence raised here says it better.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import weasyprint
    except (ImportError, OSError):
        raise OutputError(MISSING) from None
    module: ModuleType = weasyprint
    return module


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the libraries' remarks on style sheets, fonts and files off the terminal."""
    with silenced(*LOGGERS), warnings.catch_warnings():
        # WeasyPrint leaves the colour profile to the garbage collector to close.
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away: what is laid out lives to the end, and looking takes long.

    The peak of memory is nearly the same, and the next collection gives everything back.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _moment(created: str) -> datetime:
    """Return the moment in UTC; where the text is no date, the start of 1970."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
