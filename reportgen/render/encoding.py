"""JSON as it is written into a report: sorted, readable, and without NaN."""

from __future__ import annotations

import json

from pydantic import JsonValue

from reportgen.errors import OutputError


def encode_json(value: JsonValue) -> bytes:
    """Return ``value`` as UTF-8 JSON: keys sorted, one level a space, a newline at the end.

    Raises OutputError for a NaN, an infinity, or text that is no Unicode.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
        return f"{text}\n".encode()
    except ValueError as error:
        raise OutputError(
            f"Expected finite numbers and Unicode text in the report, but found others ({error})."
        ) from None
