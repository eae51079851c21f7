"""reportgen: from an image classifier and a picture to a Model Explainability Report.

``explain`` is the whole tool in one call, for one picture; ``explain_each`` for several targets of
it; ``survey`` for many pictures and models.
Nothing heavy is imported before one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reportgen.api import (
        Explanation,
        Packed,
        Surveyed,
        explain,
        explain_each,
        foresee,
        layers,
        load,
        pack,
        survey,
    )

__version__ = "0.1.0"
__all__ = [
    "Explanation",
    "Packed",
    "Surveyed",
    "explain",
    "explain_each",
    "foresee",
    "layers",
    "load",
    "pack",
    "survey",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from reportgen import api

        return getattr(api, name)
    raise AttributeError(f"module 'reportgen' has no attribute '{name}'")
