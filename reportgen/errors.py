"""Everything that reportgen raises on purpose.

    ReportgenError            exit code
    |-- UsageError            2   an option, a name or a configuration that cannot be used
    |   `-- MisfitError       2   an option that does not fit one picture of several
    |-- ModelError            3   a model that cannot be opened, recognised or explained
    |-- ImageError            4   a picture that cannot be read
    |-- OutputError           5   a report that cannot be written or rendered
    `-- NotApplicable         1   one step that does not apply; the report shows it as skipped

A message says what was expected, what came, and what to do, in one sentence a user can act on.
"""

from __future__ import annotations

from collections.abc import Iterable


class ReportgenError(Exception):
    """The root of the family; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class UsageError(ReportgenError):
    """An option, a name or a configuration that cannot be used as given."""

    exit_code = 2


class MisfitError(UsageError):
    """An option that can be used, but not with this picture."""


class ModelError(ReportgenError):
    """A model that cannot be opened, recognised, or run as an image classifier."""

    exit_code = 3


class ImageError(ReportgenError):
    """A file that cannot be read as a picture."""

    exit_code = 4


class OutputError(ReportgenError):
    """A report that cannot be written or rendered."""

    exit_code = 5


class NotApplicable(ReportgenError):
    """One step does not apply to this model or picture; the run goes on without it."""


def failure_reason(error: Exception) -> str:
    """Return why a step failed: our own sentence, else the kind of error and its first line."""
    if isinstance(error, ReportgenError):
        return str(error)
    first = str(error).strip().splitlines()[:1]
    return ": ".join([type(error).__name__, *first])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist, listing those that do."""
    return UsageError(f"Unknown {kind} '{name}'; the known ones are: {', '.join(known)}.")
