"""Make one file of a model for release: safe to open, and complete in what it says about itself.

The file is an exported program (.pt2) of the network up to its class scores, with
``reportgen.json`` inside. Before it stands in its place it is opened again as a stranger would
open it, without trust, and compared with the original.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reportgen.classifier.black_box import reason_of
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.loading import open_model
from reportgen.classifier.metadata import Hints
from reportgen.classifier.opened import Opened
from reportgen.classifier.outputs import Reader, Scoring
from reportgen.classifier.plain_names import plainly_named
from reportgen.classifier.preprocessing import prepare
from reportgen.classifier.probing import probe_pictures
from reportgen.classifier.sidecar import EMBEDDED, described
from reportgen.classifier.torchscript import as_module
from reportgen.config import Config, load_config
from reportgen.errors import ModelError, OutputError
from reportgen.image import Picture

TOLERANCE = 1e-4
"""The largest difference that a packed model may have, in probabilities and in relative scores."""

_EXAMPLES = 2  # of a batch of one, torch.export keeps the size
_MEMBER = f"/extra/{EMBEDDED}"


@dataclass(frozen=True)
class Packed:
    """A packed model: the file with its ``size`` in bytes, and how it was checked.

    ``fixed_batch`` is the only batch size that it takes, None where it takes any. ``assumed`` are
    the entries of its description that nobody stated. Of ``pictures`` pictures, ``difference`` is
    the largest one from the original, in probabilities or in scores relative to the largest.
    """

    path: Path
    size: int
    sha256: str
    fixed_batch: int | None
    assumed: tuple[str, ...]
    pictures: int
    difference: float


def pack(
    opened: Opened, given: Hints, out: Path, config: Config, picture: Picture | None = None
) -> Packed:
    """Write an opened model to ``out`` as one file that explains itself, and return what it is.

    ``given`` is what the user said about the model. ``picture`` is compared beside noise. Raises
    OutputError where ``out`` cannot be written or is a file of another kind, ModelError for a
    network that cannot be exported, or whose packed file gives other predictions; then nothing is
    written.
    """
    _check_place(out)
    plain = config.model_copy(update={"device": "cpu", "precision": "float32", "folding": False})
    with classifier_from(opened, given, plain) as classifier, _beside(out) as place:
        description = described(classifier.record, classifier.evaluator.head)
        pixels = _pixels(classifier, picture)
        _save(opened, classifier, pixels, description, place)
        packed = _checked(classifier, pixels, place)
        place.replace(out)
    return replace(packed, path=out)


def _check_place(out: Path) -> None:
    if out.is_dir() or (out.exists() and not _is_packed(out)):
        raise OutputError(
            f"'{out}' exists and is no packed model, so it is not replaced; name another file."
        )


def _is_packed(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(_MEMBER) for name in archive.namelist())


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield a path for the file while it is not whole, from where it can be renamed to ``out``."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".reportgen-", dir=out.parent) as folder:
            yield Path(folder) / "model.pt2"
    except OSError as error:
        raise OutputError(
            f"The packed model cannot be written to '{out}' ({error.strerror}); name another place."
        ) from None


def _pixels(classifier: Classifier, picture: Picture | None) -> Tensor:
    """Return what is compared (n, C, H, W): noisy pictures, and the given one."""
    preprocessing = classifier.record.preprocessing
    noise = probe_pictures(preprocessing)
    if picture is None:
        return noise
    return torch.cat([noise, prepare(picture.image, preprocessing, picture.planes).pixels[None]])


def _save(
    opened: Opened, classifier: Classifier, pixels: Tensor, description: Any, place: Path
) -> None:
    network = _plain(opened, classifier)
    batch = classifier.evaluator.normalised(pixels)
    text = json.dumps(description, ensure_ascii=False, indent=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, and of the network's own code
        program = _cleaned(_exported(network, batch, classifier.evaluator.fixed_batch))
        torch.export.save(program, place, extra_files={EMBEDDED: text})


def _plain(opened: Opened, classifier: Classifier) -> nn.Module:
    """Return the network in the form that can be exported, giving the class scores alone."""
    network = opened.network
    if reason := reason_of(network):
        raise ModelError(f"The model '{opened.name}' cannot be packed, because {reason}.")
    dtypes = {p.dtype for p in network.parameters() if p.is_floating_point()} - {torch.float32}
    if dtypes:
        name = str(dtypes.pop()).removeprefix("torch.")
        raise ModelError(
            f"The model '{opened.name}' holds weights in {name}, and a packed model is made in "
            "float32; convert it with model.float() first."
        )
    if isinstance(network, torch.jit.ScriptModule):
        network = as_module(network)
    network = plainly_named(getattr(network, "_orig_mod", network))  # what torch.compile was given
    read = classifier.evaluator.head.read
    return Scoring(network, read) if isinstance(read, Reader) and read.steps else network


def _exported(network: nn.Module, batch: Tensor, fixed: int | None) -> Any:
    """Return the exported program, for batches of any size where the network allows it."""
    if fixed is None:
        try:
            return torch.export.export(
                network, (batch[:_EXAMPLES],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
        except Exception:  # whatever the exporter says, a batch of one may still do
            fixed = 1
    # A copy, as the exporter marks its example as one of any batch size.
    example = batch[:1].clone().expand(fixed, *batch.shape[1:]).contiguous()
    try:
        return torch.export.export(network, (example,))
    except Exception as error:
        raise ModelError(_refused(error)) from error


def _cleaned(program: Any) -> Any:
    """Return the program without nodes that nothing reads, and without the maker's folders."""
    graph = program.graph_module.graph
    graph.eliminate_dead_code()
    for node in graph.nodes:
        node.meta.pop("stack_trace", None)
    program.graph_module.recompile()
    return program


def _refused(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return (
        f"The model cannot be packed, as torch.export does not take its code "
        f"({first.strip().rstrip('.')}); explain it as it is, or pack a form of it without such "
        "code."
    )


def _checked(original: Classifier, pixels: Tensor, place: Path) -> Packed:
    try:
        opened = open_model(place)
    except ModelError as error:
        raise ModelError(_refused(error)) from error
    # Nothing is said about the file: it has to know everything itself.
    plain = load_config(flags={"device": "cpu", "folding": False})
    with classifier_from(opened, Hints(), plain) as packed:
        difference = _difference(original, packed, pixels)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"The packed model's predictions differ from the original's by {difference:.2g}, where "
            f"at most {TOLERANCE:g} was expected; nothing was written."
        )
    sources = {"head": original.record.head.source, **original.record.preprocessing_sources}
    return Packed(
        path=place,
        size=place.stat().st_size,
        sha256=_sha256(place),
        fixed_batch=packed.evaluator.fixed_batch,
        assumed=tuple(name for name, source in sources.items() if source == "assumed"),
        pictures=len(pixels),
        difference=difference,
    )


def _difference(original: Classifier, packed: Classifier, pixels: Tensor) -> float:
    """Return the largest difference of predictions, infinity where the classes are others."""
    if _reading(original) != _reading(packed):
        return float("inf")
    with torch.inference_mode():
        raws = original.evaluator.raw(pixels), packed.evaluator.raw(pixels)
    scores, others = (original.evaluator.head.scores(raw) for raw in raws)
    probabilities = [original.evaluator.head.probabilities(raw) for raw in raws]
    apart = (scores - others).abs().max() / scores.abs().max().clamp_min(1)
    return max(float(apart), float((probabilities[0] - probabilities[1]).abs().max()))


def _reading(classifier: Classifier) -> object:
    """Return all that lies around the network: what it is shown, and how its outputs are read."""
    return (
        classifier.labels,
        classifier.record.preprocessing,
        classifier.evaluator.head.title,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
