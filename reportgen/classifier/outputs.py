"""Where the class scores stand in what a network returns.

Networks return one tensor, or several of them: a tuple with auxiliary heads or features, a
dictionary, a named tuple, a dataclass. The entry with the class scores is looked for once, among
the outputs for a few pictures, and read from there in every pass that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reportgen.errors import ModelError, UsageError

# The names under which networks return class scores, the likeliest first.
_NAMES = (
    "logits", "out", "output", "outputs", "scores", "probs", "probabilities", "predictions",
    "prediction",
)  # fmt: skip
_DEPTH = 3
_ROUNDING = 1e-3

Step = str | int


@dataclass(frozen=True)
class Reader:
    """Finds the class scores in what a network returns, ``steps`` deep in it.

    ``note`` says in a sentence which entry that is, where there is a choice.
    """

    steps: tuple[Step, ...] = ()
    note: str = ""

    def __call__(self, output: object, images: int) -> Tensor:
        """Return a network's output as (images, outputs); ModelError where it is none."""
        return class_outputs(self.entry(output), images)

    def entry(self, output: object) -> object:
        """Return the entry as it stands in what the network returned."""
        found = output
        for step in self.steps:
            if isinstance(found, Tensor):
                return found  # a recorded copy of the network returns the class scores alone
            found = dict(_children(found)).get(step)
        return found


ALONE = Reader()
"""Reads class scores that are all that a network returns."""


@dataclass(frozen=True)
class Wish:
    """What is known about the class scores: the entry's name or number, and how many labels."""

    name: str = ""
    labels: int | None = None


NO_WISH = Wish()


class Scoring(nn.Module):
    """A network that returns the class scores alone, as they stand in its output."""

    def __init__(self, network: nn.Module, reader: Reader) -> None:
        super().__init__()
        self.network = network
        self._reader = reader

    def forward(self, batch: Tensor) -> object:
        """Return the entry of the network's output that holds the class scores."""
        return self._reader.entry(self.network(batch))


@dataclass(frozen=True)
class _Entry:
    steps: tuple[Step, ...]
    tensor: Tensor

    @property
    def name(self) -> str:
        return ".".join(map(str, self.steps))


def find_reader(output: object, images: int, network: nn.Module, wish: Wish) -> Reader:
    """Return what reads the class scores in a network's ``output`` for several pictures.

    Of several entries that could be class scores, it is the one that the ``wish`` names, that has
    as many columns as there are labels, or that bears a usual name; the first, where all are of one
    size; or the one that a linear layer makes of the others. Raises UsageError for a name that the
    output does not have, ModelError where no entry, or more than one, can be it.
    """
    if isinstance(output, Tensor):
        _check_single(wish)
        return ALONE
    entries = list(_entries(output))
    fitting = [entry for entry in entries if _fits(entry.tensor, images)]
    chosen = _named(fitting, entries, wish) if wish.name else _found(fitting, network, wish)
    if chosen is None:
        raise ModelError(_undecided(output, entries, len(fitting)))
    return Reader(chosen.steps, _note(chosen, entries, wish))


def class_outputs(output: object, images: int) -> Tensor:
    """Return a network's output as (images, outputs), or raise ModelError saying what it was."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model should return class scores, but it returned {_kind(output)}; "
            "wrap it so that its forward returns the scores alone."
        )
    if output.ndim < 2 and output.numel() == images:
        return output.reshape(images, 1)  # one output, from a forward that squeezes
    if output.ndim > 2 and output.shape[0] == images and output[0].numel() == output.shape[1]:
        return output.flatten(1)
    if output.ndim != 2 or output.shape[0] != images:
        raise ModelError(
            f"The model should return class scores of shape ({images}, classes), but it returned "
            f"shape {tuple(output.shape)}: a feature map or another kind of output, which a "
            "classifier's last layers would turn into scores."
        )
    return output


def tensors_in(output: object) -> list[Tensor]:
    """Return the tensors of floating numbers in what a network returns, in order."""
    return [entry.tensor for entry in _entries(output) if entry.tensor.is_floating_point()]


def _check_single(wish: Wish) -> None:
    if wish.name not in ("", "0"):
        raise UsageError(
            f"There is no output '{wish.name}': the model returns one tensor; leave out --output."
        )


def _children(value: object) -> Iterator[tuple[Step, object]]:
    """Yield the entries of a container by key, field or number; nothing for anything else."""
    if isinstance(value, Mapping):
        yield from ((str(key), entry) for key, entry in value.items())
    elif isinstance(value, tuple | list):
        yield from zip(getattr(value, "_fields", range(len(value))), value, strict=True)
    elif hasattr(value, "__dict__"):
        yield from vars(value).items()


def _entries(value: object, steps: tuple[Step, ...] = ()) -> Iterator[_Entry]:
    if isinstance(value, Tensor):
        yield _Entry(steps, value)
    elif len(steps) < _DEPTH:
        for step, entry in _children(value):
            yield from _entries(entry, (*steps, step))


def _fits(tensor: Tensor, images: int) -> bool:
    """Return whether a tensor among others can be class scores; a loss has no dimension."""
    if not tensor.is_floating_point() or tensor.ndim == 0:
        return False
    try:
        class_outputs(tensor, images)
    except ModelError:
        return False
    return True


def _named(fitting: Sequence[_Entry], entries: Sequence[_Entry], wish: Wish) -> _Entry:
    by_name = {entry.name: entry for entry in entries}
    by_number = {str(number): entry for number, entry in enumerate(entries)}
    chosen = by_name.get(wish.name) or by_number.get(wish.name)
    if chosen is None or chosen not in fitting:
        raise UsageError(
            f"The output '{wish.name}' is no tensor of class scores (pictures, classes); the model "
            f"returns {_listed(entries)}."
        )
    return chosen


def _found(fitting: Sequence[_Entry], network: nn.Module, wish: Wish) -> _Entry | None:
    """Return the entry that must be the class scores, or None where that is open."""
    known = [entry for entry in fitting if _width(entry) == wish.labels] or fitting
    for name in _NAMES:
        for entry in known:
            if str(entry.steps[-1]).casefold() == name:
                return entry
    return _first(known) or _first([e for e in known if not _is_read(e, known, network)])


def _first(entries: Sequence[_Entry]) -> _Entry | None:
    """Return the first of entries of one width: networks return auxiliary heads behind it."""
    return entries[0] if len({_width(entry) for entry in entries}) == 1 else None


def _width(entry: _Entry) -> int:
    return entry.tensor[0].numel()


def _is_read(features: _Entry, others: Iterable[_Entry], network: nn.Module) -> bool:
    """Return whether a linear layer of the network makes one of the ``others`` of ``features``."""
    matrices = [p.detach() for p in network.parameters() if p.ndim == 2]
    return any(
        _makes(matrix, features.tensor.detach().flatten(1), other.tensor.detach().flatten(1))
        for other in others
        for matrix in matrices
        if matrix.shape == (_width(other), _width(features))
    )


def _makes(matrix: Tensor, features: Tensor, scores: Tensor) -> bool:
    # What is left of the scores is the bias, the same for each picture.
    left = (scores - features @ matrix.T).float()
    return bool((left - left[:1]).abs().max() <= _ROUNDING * scores.abs().max())


def _note(chosen: _Entry, entries: Sequence[_Entry], wish: Wish) -> str:
    if len(entries) == 1:
        return ""
    by = " (chosen by option)" if wish.name else ""
    return f"Class scores are the entry '{chosen.name}' of {len(entries)} outputs{by}."


def _undecided(output: object, entries: Sequence[_Entry], fitting: int) -> str:
    if not entries:
        return (
            f"The model should return class scores, but it returned {_kind(output)} without a "
            "tensor; wrap it so that its forward returns the scores."
        )
    if not fitting:
        return (
            "The model should return class scores of shape (pictures, classes), but none of its "
            f"outputs has that shape: {_listed(entries)}."
        )
    return (
        f"The model returns {_listed(entries)}, and more than one of them can be the class scores; "
        "name theirs with --output."
    )


def _listed(entries: Iterable[_Entry]) -> str:
    return ", ".join(f"'{entry.name}' of shape {_shape(entry.tensor)}" for entry in entries)


def _shape(tensor: Tensor) -> str:
    whole = "" if tensor.is_floating_point() else f" ({str(tensor.dtype).removeprefix('torch.')})"
    return f"{tuple(tensor.shape)}{whole}"


def _kind(output: object) -> str:
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} with the keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {name} of {len(output)} items"
    return f"a {name}"
