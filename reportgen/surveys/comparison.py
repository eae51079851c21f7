"""Paired differences: between methods on the same pictures, and between models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reportgen.records import Direction
from reportgen.surveys.records import Comparison, Criteria, Same
from reportgen.surveys.statistics import Numbers, holm, mean_intervals, signed_rank
from reportgen.surveys.summary import comparable
from reportgen.surveys.tally import Column, Key, Tally

TOO_FEW = "too few pictures for a test"
NO_DIFFERENCE = "no difference on any picture"
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class _Pair:
    """A comparison to be made, and the differences it rests on."""

    bare: Comparison
    differences: Numbers


def comparisons(tally: Tally, criteria: Criteria, seed: int) -> tuple[Comparison, ...]:
    """Return all paired comparisons of numbers of which one way is better.

    Methods are compared within a model, models within a method; only values with equal settings,
    and between models of equal input size, are subtracted. Intervals are drawn from ``seed``.
    """
    columns = {
        key: column
        for key, column in comparable(tally).items()
        if tally.direction(key.metric) != "descriptive"
    }
    pairs = [*_between_methods(tally, columns), *_between_models(tally, columns)]
    tested = _with_intervals([_compared(tally, pair, criteria) for pair in pairs], criteria, seed)
    return _corrected(tested)


def same_classes(tally: Tally) -> tuple[Same, ...]:
    """Return how often each pair of models gives the explained class one label."""
    labels: dict[str, dict[int, str]] = {model: {} for model in tally.models}
    for entry in tally.entries:
        if entry.folder:
            labels[entry.model][entry.number] = entry.label
    return tuple(_same(labels, a, b) for a, b in combinations(labels, 2))


def _same(labels: Mapping[str, Mapping[int, str]], first: str, second: str) -> Same:
    both = labels[first].keys() & labels[second].keys()
    same = sum(labels[first][number] == labels[second][number] for number in both)
    return Same(first=first, second=second, pictures=len(both), same=same)


def _between_methods(tally: Tally, columns: Mapping[Key, Column]) -> Iterator[_Pair]:
    groups: dict[tuple[str, str, str], list[Key]] = {}
    for key in columns:
        if key.subject in tally.titles:
            groups.setdefault((key.model, key.metric, key.settings), []).append(key)
    for (model, metric, _), keys in groups.items():
        for a, b in combinations(keys, 2):
            yield _pair(
                Comparison(
                    between="methods",
                    metric=metric,
                    first=a.subject,
                    second=b.subject,
                    within=model,
                    pictures=0,
                ),
                columns[a],
                columns[b],
            )


def _between_models(tally: Tally, columns: Mapping[Key, Column]) -> Iterator[_Pair]:
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in columns:
        if tally.of_model(key.subject):
            groups.setdefault((key.metric, key.subject), []).append(key)
    for (metric, subject), keys in groups.items():
        for a, b in combinations(keys, 2):
            if a.model == b.model or _elsewhere(a, b, keys):
                continue
            bare = Comparison(
                between="models",
                metric=metric,
                first=a.model,
                second=b.model,
                within=subject,
                pictures=0,
                note=_unlike(tally, a, b),
            )
            yield _pair(bare, columns[a], columns[b])


def _elsewhere(a: Key, b: Key, keys: Iterable[Key]) -> bool:
    """Return whether either of two columns of unlike settings has a like one to be paired with."""
    if a.settings == b.settings:
        return False
    wanted = {(a.model, b.settings), (b.model, a.settings)}
    return any((key.model, key.settings) in wanted for key in keys)


def _unlike(tally: Tally, a: Key, b: Key) -> str:
    """Return why two models' values are not subtracted, or nothing where they are."""
    sizes = [tally.models[key.model].preprocessing.crop for key in (a, b)]
    if sizes[0] != sizes[1]:
        return f"{NOT_COMPARED}: the input sizes differ"
    return f"{NOT_COMPARED}: the settings differ" if a.settings != b.settings else ""


def _pair(bare: Comparison, first: Column, second: Column) -> _Pair:
    if bare.note:
        return _Pair(bare, np.empty(0))
    values, others = first.by_picture(), second.by_picture()
    both = [number for number in values if number in others]
    return _Pair(bare, np.array([values[n] - others[n] for n in both], dtype=np.float64))


def _compared(tally: Tally, pair: _Pair, criteria: Criteria) -> _Pair:
    differences, bare = pair.differences, pair.bare
    if not len(differences):
        return _Pair(bare.model_copy(update={"note": bare.note or TOO_FEW}), differences)
    enough = len(differences) >= criteria.fewest
    p = signed_rank(differences) if enough else None
    note = TOO_FEW if not enough else NO_DIFFERENCE if p is None else ""
    found = {
        "pictures": len(differences),
        "mean": float(differences.mean()),
        "median": float(np.median(differences)),
        "better": _better(tally.direction(bare.metric), differences),
        "p": p,
        "note": note,
    }
    return _Pair(bare.model_copy(update=found), differences)


def _better(direction: Direction, differences: Numbers) -> int:
    return int(((differences < 0) if direction == "lower is better" else (differences > 0)).sum())


def _with_intervals(pairs: list[_Pair], criteria: Criteria, seed: int) -> list[Comparison]:
    """Return the comparisons, those that have enough pictures with the interval of their mean."""
    found = [pair.bare for pair in pairs]
    counts = {len(pair.differences) for pair in pairs}
    for count in sorted(count for count in counts if count >= criteria.fewest):
        places = [i for i, pair in enumerate(pairs) if len(pair.differences) == count]
        values = np.stack([pairs[i].differences for i in places])
        limits = mean_intervals(values, (criteria.resamples, criteria.confidence), seed)
        for place, (low, high) in zip(places, limits.tolist(), strict=True):
            found[place] = found[place].model_copy(update={"interval": (low, high)})
    return found


def _corrected(found: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Return the comparisons with p corrected within each family of them."""
    corrected = list(found)
    families: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(corrected):
        if one.p is not None:
            families.setdefault(family(one), []).append(place)
    for places in families.values():
        ps = [p for place in places if (p := corrected[place].p) is not None]
        for place, p in zip(places, holm(ps), strict=True):
            corrected[place] = corrected[place].model_copy(update={"p_adjusted": p})
    return tuple(corrected)


def family(comparison: Comparison) -> tuple[str, ...]:
    """Return what is corrected together: the methods of one model, or one pair of models."""
    if comparison.between == "methods":
        return ("methods", comparison.within)
    return ("models", comparison.first, comparison.second)
