"""The names that tensors may have had before a network was wrapped, trained and saved.

Wrappers put words in front of names or between them. Training code keeps the network as an
attribute, beside losses, metrics and copies of it, or cuts it into a backbone and a head.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from reportgen.classifier.fitting import StateDict

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?)(?:[._]|$)", re.IGNORECASE)
_COPIES = re.compile(r"(?:^|[._])(?:teacher|momentum|target)(?:[._]|$)", re.IGNORECASE)
_BESIDE = re.compile(
    r"loss|criterion|metric|confmat|confusion|(?:^|[._])(?:acc|accuracy|f1|auroc|queue|center)"
    r"(?:[._]|$)",
    re.IGNORECASE,
)

# Written beside the weights by torch.optim.swa_utils.AveragedModel.
_AVERAGING_COUNTER = "n_averaged"
_HEADS = frozenset({"head", "fc", "classifier", "cls_head", "linear", "last_linear"})
_DEPTH = 3
_FEW = 16


@dataclass(frozen=True)
class Variant:
    """One reading of the names in a state dict.

    ``prefix`` came off the names of ``tensors``; ``others`` lie elsewhere and were left out.
    ``head`` is the name under which a head was found beside its backbone.
    """

    tensors: StateDict
    prefix: str = ""
    others: Mapping[str, torch.Tensor] = field(default_factory=dict)
    head: str = ""

    def strange(self) -> tuple[str, ...]:
        """Return the names of matrices left out that are no loss, metric or copy of the network."""
        return tuple(
            key
            for key, tensor in self.others.items()
            if tensor.ndim >= 2
            and tensor.numel() > _FEW
            and not _is_beside(key)
            and not (is_average(self.prefix) and self._has_twin(key))
        )

    def _has_twin(self, key: str) -> bool:
        """Return whether the tensors have one of the same name under another prefix."""
        parts = key.split(".")
        return any(".".join(parts[start:]) in self.tensors for start in range(1, len(parts)))


def prefix_variants(tensors: StateDict, heads: Collection[str] = ()) -> Iterator[Variant]:
    """Yield the state dict as it is, then what lies under each prefix, averages first.

    Where a layer by the name of a head lies beside a prefix, also both together, with the layer
    under each of the names ``heads``.
    """
    plain = _renamed(tensors, lambda key: key)
    yield Variant(plain)
    bare = _renamed(plain, lambda key: _WRAPPERS.sub("", key))
    if list(bare) != list(plain):
        yield Variant(bare)
    yield from _inside(Variant(bare), heads, _DEPTH)


def is_average(name: str) -> bool:
    """Return whether weights by this name are an average over training."""
    return bool(_AVERAGED.search(name))


def under(tensors: StateDict, prefix: str) -> StateDict:
    """Return the tensors whose names start with ``prefix``, without it."""
    chosen: StateDict = OrderedDict(
        (key.removeprefix(prefix), tensor)
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    )
    versions = getattr(tensors, "_metadata", None)
    if isinstance(versions, Mapping):
        chosen._metadata = OrderedDict(  # type: ignore[attr-defined]
            (key.removeprefix(prefix[:-1]).removeprefix("."), version)
            for key, version in versions.items()
            if f"{key}.".startswith(prefix)
        )
    return chosen


def top_names(tensors: StateDict, least: float = 1 / 20) -> tuple[str, ...]:
    """Return the prefixes under which at least that share of the tensors lies, averages first."""
    counts = Counter(key.partition(".")[0] for key in tensors if "." in key)
    likely = [name for name, count in counts.items() if count >= least * len(tensors)]
    return tuple(sorted(likely, key=lambda name: (_order(name), -counts[name])))


def large_parts(tensors: StateDict) -> tuple[str, ...]:
    """Return the prefixes of parts that may be whole networks: with a third of all tensors."""
    parts = top_names(tensors, 1 / 3)
    return tuple(p for p in parts if any("." in key for key in under(tensors, f"{p}.")))


def copy_versions(source: object, target: StateDict) -> None:
    """Copy the versions of the modules' formats, which PyTorch keeps beside the tensors."""
    versions = getattr(source, "_metadata", None)
    if isinstance(versions, Mapping):
        target._metadata = OrderedDict(versions)  # type: ignore[attr-defined]


def _inside(outer: Variant, heads: Collection[str], depth: int) -> Iterator[Variant]:
    if depth == 0:
        return
    for name in top_names(outer.tensors):
        inner = _one(outer, f"{name}.")
        yield inner
        yield from _with_head(outer, inner, name, heads)
        yield from _inside(inner, heads, depth - 1)


def _one(outer: Variant, prefix: str) -> Variant:
    left = {
        f"{outer.prefix}{key}": tensor
        for key, tensor in outer.tensors.items()
        if not key.startswith(prefix)
    }
    full = f"{outer.prefix}{prefix}"
    return Variant(under(outer.tensors, prefix), full, {**outer.others, **left})


def _with_head(
    outer: Variant, inner: Variant, name: str, heads: Collection[str]
) -> Iterator[Variant]:
    """Yield backbone and head as one network, for each name that its head may have."""
    for top in sorted(_HEADS - {name}):
        layer = {key: t for key, t in outer.tensors.items() if key.startswith(f"{top}.")}
        place = _linear(layer)
        if place is None:
            continue
        others = {
            k: t for k, t in inner.others.items() if k.removeprefix(outer.prefix) not in layer
        }
        for head in heads:
            tensors = inner.tensors.copy()
            copy_versions(inner.tensors, tensors)
            tensors.update((f"{head}{key[len(place) :]}", t) for key, t in layer.items())
            yield Variant(tensors, inner.prefix, others, f"{outer.prefix}{place}")


def _linear(layer: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the linear layer that these tensors are, None where they are none."""
    places = {key.rpartition(".")[0] for key in layer}
    kinds = {key.rpartition(".")[2]: tensor.ndim for key, tensor in layer.items()}
    if len(places) != 1 or kinds not in ({"weight": 2, "bias": 1}, {"weight": 2}):
        return None
    return places.pop()


def _renamed(tensors: StateDict, rename: Callable[[str], str]) -> StateDict:
    renamed: StateDict = OrderedDict(
        (rename(key), tensor) for key, tensor in tensors.items() if key != _AVERAGING_COUNTER
    )
    versions = getattr(tensors, "_metadata", None)
    if isinstance(versions, Mapping):
        renamed._metadata = OrderedDict(  # type: ignore[attr-defined]
            (rename(f"{key}.").removesuffix("."), version) for key, version in versions.items()
        )
    return renamed


def _order(name: str) -> int:
    if is_average(name):
        return 0
    return 2 if _COPIES.search(name) else 1


def _is_beside(name: str) -> bool:
    return any(pattern.search(name) for pattern in (_AVERAGED, _COPIES, _BESIDE))
