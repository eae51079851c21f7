"""The Python calls: models and pictures in, reports out that can be saved and show themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import nn

from reportgen import packing, pipeline
from reportgen.classifier.callables import open_function
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints, combine
from reportgen.classifier.opened import Opened
from reportgen.classifier.preprocessing import place_back
from reportgen.classifier.sidecar import flag_hints, sidecar_hints
from reportgen.config import Config, load_config
from reportgen.errors import ImageError, ModelError, UsageError
from reportgen.image import open_image
from reportgen.layer_records import LayerChoice
from reportgen.packing import Packed as Packed
from reportgen.phrases import speaking
from reportgen.pipeline import Foreseen, make_report, make_reports
from reportgen.preflight import Forecast
from reportgen.records import Report
from reportgen.render.html import to_html
from reportgen.render.reader import read_report
from reportgen.render.target_folders import write_alone
from reportgen.render.writer import FORMATS
from reportgen.series import Candidate, Wanted, contenders_of, run_series
from reportgen.surveys.records import Survey

Model = str | os.PathLike[str] | nn.Module | Callable[[Any], Any]
Picture = str | os.PathLike[str] | Image | NDArray[Any]

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
    ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".npy",
)  # fmt: skip
"""How the names of pictures in a folder end; its other files are passed over."""


@dataclass(frozen=True)
class Surveyed:
    """A survey, and the files that stand in its folder."""

    survey: Survey
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Explanation:
    """A report, and the arrays behind it by name: maps (H, W), curves, pictures, segments.

    ``templates`` is the folder of the user's own text templates, if there is one.
    """

    report: Report
    arrays: Mapping[str, NDArray[np.generic]]
    templates: str = ""

    def save(
        self, directory: str | os.PathLike[str], formats: Collection[str] = FORMATS
    ) -> tuple[Path, ...]:
        """Write the report to ``directory`` and return the paths of its files.

        What stood there before, also reports on several targets, is kept until the new report is
        whole. Raises OutputError where it cannot be written, or where a PDF cannot be made because
        Pango is missing.
        """
        with speaking(self.report.language, self.templates):
            return write_alone(self.report, self.arrays, Path(directory), formats, require_pdf=True)

    def on_picture(self, method: str) -> NDArray[np.float32]:
        """Return the map of a method on the grid of the picture, NaN where the network saw nothing.

        The result is (height, width) of the picture, upright, interpolated bilinearly. Raises
        UsageError where the report has no map of ``method``.
        """
        maps = {one.method: one.array for one in self.report.attributions}
        if method not in maps:
            named = ", ".join(maps) or "none"
            raise UsageError(f"The report has no map of '{method}'; its maps: {named}.")
        image = self.report.image
        return place_back(self.arrays[maps[method]], image.crop, (image.width, image.height))

    def _repr_html_(self) -> str:
        # In a frame of its own, so that the report's style stays out of the notebook's.
        with speaking(self.report.language, self.templates):
            page = escape(to_html(self.report, self.arrays), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="900" frameborder="0"></iframe>'


def explain(
    model: Model,
    image: Picture,
    config: Config | Mapping[str, Any] | None = None,
    started: Callable[[str], None] = lambda stage: None,
    foreseen: Foreseen | None = None,
) -> Explanation:
    """Return the Model Explainability Report of ``model`` and ``image``.

    ``model`` is a path, ``torchvision:NAME``, or a module, which is left as it was found; its
    outputs are class scores of normalised batches (n, C, H, W). Or it is a function from pictures,
    a float32 array (n, height, width, channels) in [0, 1] of the size of ``image`` (at most 512
    pixels a side) or of the option ``size``, to logits or probabilities (n, classes): a black box,
    explained by its predictions alone. ``image`` is a path, a PIL picture, or an array (H, W) or
    (H, W, C), uint8, uint16 or float in [0, 1]. ``config`` holds options by the names in
    ``reportgen.config.Config``. ``started`` hears the name of each stage, ``foreseen`` what all
    this will cost, before it starts. Of several labels that hold, the most probable is explained;
    ``explain_each`` explains all.

    Raises UsageError, ModelError or ImageError for what cannot be used.
    """
    options = _options(config)
    picture = open_image(image)
    report, arrays = make_report(
        *_opened(model, options, [image]), picture, options, started, foreseen
    )
    return Explanation(report, arrays, options.templates)


def explain_each(
    model: Model,
    image: Picture,
    config: Config | Mapping[str, Any] | None = None,
    started: Callable[[str], None] = lambda stage: None,
    foreseen: Foreseen | None = None,
) -> Iterator[Explanation]:
    """Yield a report of ``model`` and ``image`` for each target, in order of probability.

    The targets are what the option ``target`` asks for: the K classes of ``top:K``, or, without it
    and with several labels a picture, each label that holds. The model is made ready once, and left
    as it was found when the last report is taken. Otherwise as ``explain``.
    """
    options = _options(config)
    picture = open_image(image)
    opened, given = _opened(model, options, [image])
    for report, arrays in make_reports(opened, given, picture, options, started, foreseen):
        yield Explanation(report, arrays, options.templates)


def foresee(
    model: Model,
    images: Picture | Sequence[Picture],
    config: Config | Mapping[str, Any] | None = None,
) -> Forecast:
    """Return what ``explain`` or ``survey`` will cost: passes, seconds and memory.

    The first of ``images`` stands for all. A few passes are made to see how long one takes. Raises
    as ``explain``.
    """
    options = _options(config)
    pictures, _ = find_pictures(images)
    first = open_image(pictures[0])
    one = pipeline.foresee(*_opened(model, options, pictures), first, options)
    # Of several pictures, each is explained for one target.
    return replace(one, pictures=len(pictures), targets=one.targets if len(pictures) == 1 else 1)


def layers(
    model: Model,
    image: Picture | None = None,
    config: Config | Mapping[str, Any] | None = None,
) -> LayerChoice:
    """Return the layers that class activation maps could look at, with their self-tests.

    Without an ``image``, a photograph that comes with scikit-image is shown to the network. Raises
    as ``explain``, and NotApplicable where no activation of the network can be read.
    """
    options = _options(config)
    shown = _photograph() if image is None else image
    opened, given = _opened(model, options, [shown])
    return pipeline.choose_layer(opened, given, open_image(shown), options)


def _photograph() -> NDArray[Any]:
    from skimage.data import chelsea

    photograph: NDArray[Any] = chelsea()
    return photograph


def _options(config: Config | Mapping[str, Any] | None) -> Config:
    return config if isinstance(config, Config) else load_config(flags=config)


def _each(models: Model | Sequence[Model]) -> Sequence[Model]:
    if isinstance(models, str | os.PathLike) or callable(models):
        return [models]
    if not models:
        raise UsageError("There is no model to explain; give at least one.")
    return models


def _opened(model: Model, options: Config, images: Sequence[Picture]) -> tuple[Opened, Hints]:
    """Return an opened model, and what the user says about it.

    A Python function sees pictures of the size that is asked for, else that of the first of
    ``images`` which can be opened.
    """
    if callable(model) and not isinstance(model, nn.Module):
        given = flag_hints(options)
        size = given.crop.value if given.crop else _first_size(images)
        return open_function(model, size, given.crop is not None), given
    opened = open_model(
        model, options.arch, options.trust_pickle, options.allow_download, options.weights
    )
    return opened, combine(flag_hints(options), sidecar_hints(model))


def survey(
    models: Model | Sequence[Model],
    images: Picture | Sequence[Picture],
    out: str | os.PathLike[str],
    config: Config | Mapping[str, Any] | None = None,
    formats: Collection[str] = FORMATS,
    started: Callable[[str], None] = lambda stage: None,
    foreseen: Foreseen | None = None,
) -> Surveyed:
    """Explain many pictures with one or several models, and write it all to the folder ``out``.

    ``models`` and ``images`` are what ``explain`` takes; a path may also be a folder of pictures,
    which are then taken in the order of their names. Each report is written before the next is
    made, so memory does not grow with their number. A picture that cannot be explained is an entry
    with the reason. ``started`` hears of each picture, ``foreseen`` of what each model will cost,
    before it starts. "html" in ``formats`` is for the reports of the pictures as well, "pdf" for
    the survey alone.

    Raises UsageError, ModelError or OutputError for what cannot be used, ImageError where no
    picture could be explained; then nothing is written.
    """
    options = _options(config)
    pictures, passed_over = find_pictures(images)
    opened = [_opened(model, options, pictures) for model in _each(models)]
    candidates = [Candidate(_name(picture), partial(open_image, picture)) for picture in pictures]
    wanted = Wanted(Path(out), formats, "pdf" in formats, passed_over)
    contenders = contenders_of(opened)
    with speaking(options.language, options.templates):
        return Surveyed(*run_series(contenders, candidates, options, wanted, started, foreseen))


def _first_size(images: Sequence[Picture]) -> tuple[int, int]:
    """Return (height, width) of the first picture that can be opened; else raises its error."""
    for image in images[:-1]:
        with suppress(ImageError):
            return open_image(image).image.size[::-1]
    return open_image(images[-1]).image.size[::-1]


def pack(
    model: Model,
    out: str | os.PathLike[str],
    config: Config | Mapping[str, Any] | None = None,
    image: Picture | None = None,
) -> Packed:
    """Write ``model`` to the file ``out``, an exported program that describes itself.

    ``explain`` needs nothing else to explain it as it explains ``model``: what ``config`` says of
    labels, head and preprocessing is inside, and so is what was detected or assumed, marked so. The
    file is opened again without trust and compared with the original, on noise and on ``image``,
    before it is left at its place. Raises as ``explain``, ModelError where the network cannot be
    exported or its predictions change, and OutputError where ``out`` cannot be written.
    """
    if callable(model) and not isinstance(model, nn.Module):
        raise ModelError("A Python function cannot be packed; give the network that it calls.")
    options = _options(config)
    picture = None if image is None else open_image(image)
    return packing.pack(*_opened(model, options, []), Path(out), options, picture)


def find_pictures(images: Picture | Sequence[Picture]) -> tuple[tuple[Picture, ...], int]:
    """Return pictures, those of folders sorted by name, and how many other files lie there.

    A path that is no folder is returned as it is. Folders inside a folder are not looked into.
    Raises ImageError where there is none, and for a folder that has none or cannot be read.
    """
    given = [images] if isinstance(images, str | os.PathLike | Image | np.ndarray) else images
    found: list[Picture] = []
    passed_over = 0
    for image in given:
        if isinstance(image, str | os.PathLike) and Path(image).is_dir():
            inside, others = _inside(Path(image))
            found.extend(inside)
            passed_over += others
        else:
            found.append(image)
    if not found:
        raise ImageError("There is no picture to explain; give at least one.")
    return tuple(found), passed_over


def _inside(folder: Path) -> tuple[list[Path], int]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise ImageError(
            f"The folder '{folder}' cannot be read ({error.strerror}); name another one."
        ) from None
    pictures = [path for path in files if path.suffix.lower() in ENDINGS]
    if not pictures:
        raise ImageError(
            f"There is no picture in the folder '{folder}'; expected files ending in "
            f"{', '.join(ENDINGS)}."
        )
    return pictures, len(files) - len(pictures)


def _name(picture: Picture) -> str:
    return Path(picture).name if isinstance(picture, str | os.PathLike) else "image"


def load(report: str | os.PathLike[str], templates: str = "") -> Explanation:
    """Return a saved report by the path of its ``report.json``; no model is needed.

    ``templates`` is the folder of the user's own text templates, with which it is shown. Raises
    OutputError where the report is missing, damaged or of another schema version.
    """
    return Explanation(*read_report(Path(report)), templates)
