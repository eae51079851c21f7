"""Move an exported program (.pt2) to the CPU before it is loaded.

PyTorch can load a program only where the device exists that it was exported on. All devices are
named in the JSON parts of the archive: those of the weights, and those in the graph.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

_CPU = {"type": "cpu", "index": None}


def on_cpu(file: BinaryIO) -> BinaryIO:
    """Return the archive with every device in it the CPU: the file itself, or a copy in memory."""
    with zipfile.ZipFile(file) as archive:
        texts = {name: archive.read(name) for name in archive.namelist() if _is_json(name)}
        moved = {name: text for name in texts if (text := _moved(texts[name])) is not None}
        if not moved:
            file.seek(0)
            return file
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as target:
            for name in archive.namelist():
                target.writestr(name, moved.get(name) or archive.read(name))
    copy.seek(0)
    return copy


def _is_json(name: str) -> bool:
    return name.endswith(".json") and "/extra/" not in name


def _moved(text: bytes) -> bytes | None:
    """Return the JSON with all devices the CPU, None where they are already."""
    content = json.loads(text)
    devices = list(_foreign(content))
    for device in devices:
        device.update(_CPU)
    return json.dumps(content).encode() if devices else None


def _foreign(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the devices inside a JSON value that are not the CPU."""
    if isinstance(value, dict) and value.keys() == _CPU.keys():
        if value["type"] != _CPU["type"]:
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _foreign(item)
