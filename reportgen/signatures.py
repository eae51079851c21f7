"""What a file is, by its first bytes, for the sentence that refuses it as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping

NUMPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*")

# A raw file opens as a TIFF that shows only its thumbnail, so the name has to tell.
RAW = re.compile(r"\.(3fr|arw|cr2|cr3|crw|dng|erf|nef|nrw|orf|pef|raf|rw2|srw)", re.IGNORECASE)

_SIGNATURES: Mapping[bytes, str] = {
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM|II\*\0|MM\0\*|RIFF....WEBP|\0\0\0\x0cjP  |....ftypavif": (
        "a picture that is damaged, cut off, or of a rare kind"
    ),
    rb"....ftyp(heic|heix|hevc|mif1|msf1)": "a HEIC photo",
    rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3": "a film",
    rb"%PDF": "a PDF document",
    rb"%!PS": "a PostScript document",
    rb"\s*<(!doctype )?html": "a web page",
    rb"\s*<(.*<)?svg": "an SVG drawing",
    rb"PK\x03\x04": "a ZIP archive, which PyTorch models are too",
    rb"\x80[\x02-\x05]": "a pickle, which old PyTorch models are",
    rb"\x89HDF": "an HDF5 file",
    rb"\x93NUMPY": "a NumPy array",
    rb"[\t\n\r\x20-\x7e]+$": "plain text",
}


def looks_like(head: bytes) -> str:
    """Return in words what a file looks like that starts with ``head``."""
    for pattern, words in _SIGNATURES.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return words
    return "no picture"
