"""The Python call: a model and a picture in, a report out that can be saved and shows itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import nn

from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import combine
from reportgen.classifier.sidecar import flag_hints, sidecar_hints
from reportgen.config import Config, load_config
from reportgen.image import open_image
from reportgen.pipeline import make_report
from reportgen.records import Report
from reportgen.render.html import to_html
from reportgen.render.reader import read_report
from reportgen.render.writer import FORMATS, write_report

Model = str | os.PathLike[str] | nn.Module
Picture = str | os.PathLike[str] | Image | NDArray[Any]


@dataclass(frozen=True)
class Explanation:
    """A report, and the arrays behind it by name: maps (H, W), curves, pictures, segments."""

    report: Report
    arrays: Mapping[str, NDArray[np.generic]]

    def save(
        self, directory: str | os.PathLike[str], formats: Collection[str] = FORMATS
    ) -> tuple[Path, ...]:
        """Write the report to ``directory`` and return the paths of its files.

        What stood there before is kept until the new report is whole. Raises OutputError where it
        cannot be written, or where a PDF cannot be made because Pango is missing.
        """
        return write_report(self.report, self.arrays, Path(directory), formats, require_pdf=True)

    def _repr_html_(self) -> str:
        # In a frame of its own, so that the report's style stays out of the notebook's.
        page = escape(to_html(self.report, self.arrays), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="900" frameborder="0"></iframe>'


def explain(
    model: Model,
    image: Picture,
    config: Config | Mapping[str, Any] | None = None,
    started: Callable[[str], None] = lambda stage: None,
) -> Explanation:
    """Return the Model Explainability Report of ``model`` and ``image``.

    ``model`` is a path, ``torchvision:NAME``, or a module, which is left as it was found; its
    outputs are class scores of normalised batches (n, C, H, W). ``image`` is a path, a PIL picture,
    or an array (H, W) or (H, W, 3), uint8 or float in [0, 1]. ``config`` holds options by the names
    in ``reportgen.config.Config``. ``started`` hears the name of each stage.

    Raises UsageError, ModelError or ImageError for what cannot be used.
    """
    options = config if isinstance(config, Config) else load_config(flags=config)
    picture = open_image(image)
    opened = open_model(model, options.arch, options.trust_pickle)
    given = combine(flag_hints(options), sidecar_hints(model))
    report, arrays = make_report(opened, given, picture, options, started)
    return Explanation(report, arrays)


def load(report: str | os.PathLike[str]) -> Explanation:
    """Return a saved report by the path of its ``report.json``; no model is needed.

    Raises OutputError where it is missing, damaged or of another schema version.
    """
    return Explanation(*read_report(Path(report)))
