"""Whether Grad-CAM of the layer found lies on what is shown: small networks, trained by seed.

    python benchmarks/right_layer.py [--seeds 5] [--out FILE.md]

Networks and pictures are those of ``tests/classifier/test_right_layer.py``, and one kind more, a
transformer that reads its class token. Each is trained in seconds on pictures whose masks are
known.
The first table says on which share of the held-out pictures more of the map lies in the mask than
the mask's share of the picture, for the layer chosen and for the best of the other candidates. The
second says what a report on one picture says of its layer, and how often the map shown is right.
The third says how often the maps of methods that need no layer are.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from machine import this_machine
from torch import Tensor, nn
from torch.nn.functional import interpolate

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "classifier")]

import test_right_layer as proof  # noqa: E402
from toys import request  # noqa: E402

from reportgen.attribution import METHODS  # noqa: E402
from reportgen.classifier.classifier import Classifier  # noqa: E402
from reportgen.classifier.grids import Grid  # noqa: E402
from reportgen.classifier.taps import Taps, taps_of  # noqa: E402
from reportgen.config import Config  # noqa: E402
from reportgen.errors import NotApplicable  # noqa: E402
from reportgen.layer_records import LayerCandidate  # noqa: E402

_HEADS = (
    "network", "seed", "accuracy", "layer chosen", "grid", "self-test", "pictures above floor",
    "mean share (floor)", "best other candidate", "its pictures above floor",
)  # fmt: skip
_ASKED = 10
_OUTCOMES = ("passes", "undecided", "no layer")
_HEADS_OF_ONE = (
    "network", "pictures asked about", *(f"{each} (above floor)" for each in _OUTCOMES[:2]),
    _OUTCOMES[2],
)  # fmt: skip
_OTHERS = (
    "attention-rollout", "attention-relevance", "integrated-gradients", "saliency", "occlusion",
)  # fmt: skip
_OF_OTHERS = (
    "Methods that need no layer: the share of held-out pictures of whose map, where it is "
    "positive, more lies in the mask than the mask's share of the picture."
)
_HEADS_OF_OTHERS = ("network", "pictures", *_OTHERS)


class ClassToken(proof.Transformer):
    """Reads its first prefix token instead of the mean of the patches' tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (n, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        tokens = torch.cat([self.prefix.expand(x.shape[0], -1, -1), tokens], dim=1)
        scores: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return scores


# The kind of the test whose pictures each network is shown, and what is built instead, if anything.
KINDS: Mapping[str, tuple[str, type[nn.Module] | None]] = {
    **{kind: (kind, None) for kind in proof.SIZES if kind != "wide convolutions"},
    "transformer, class token": ("transformer", ClassToken),
}


@dataclass(frozen=True)
class Hit:
    """The share of pictures whose map lies in the mask more than chance has it, and mean shares."""

    pictures: float
    inside: float
    floor: float


Told = Counter[tuple[str, bool]]
Above = Mapping[str, Sequence[bool]]


def row(kind: str, seed: int) -> tuple[str, Told, Above]:
    """Return the row of the table for one kind and seed, what reports say, and other methods."""
    like, other = KINDS[kind]
    make, height, width = proof.SIZES[like]
    network = proof.train(other or make, height, width, seed)
    pixels, classes, _ = held_out = proof.drawn(proof.HELD_OUT, height, width, seed=1)
    with proof.made_ready(like, network) as classifier:
        found = classifier.probabilities(pixels).argmax(1)
        choice = classifier.layer_search(pixels[0], int(classes[0])).choice
        taps = taps_of(classifier.evaluator.network)
        taps.shapes(classifier.evaluator.normalised(pixels[:2]))
        hits = {c.name: hit(classifier, taps, c, held_out) for c in choice.candidates}
        told = one_by_one(classifier, taps, held_out)
        others = others_above(classifier, held_out)
    accuracy = float((found == classes).float().mean())
    chosen = choice.candidate(choice.chosen)
    own = hits.pop(choice.chosen, None)
    best = max(hits, key=lambda name: hits[name].pictures, default="")
    cells = [kind, str(seed), f"{accuracy:.2f}"]
    if own and chosen:
        grid = f"{chosen.height}x{chosen.width}"
        share = f"{own.inside:.2f} ({own.floor:.2f})"
        cells += [chosen.name, grid, outcome_of(chosen), f"{own.pictures:.2f}", share]
    else:
        cells += [f"none: {choice.reason}", "", "", "", ""]
    cells += [best, f"{hits[best].pictures:.2f}"] if best else ["", ""]
    return f"| {' | '.join(cells)} |", told, others


def outcome_of(candidate: LayerCandidate) -> str:
    """Return what came of the last check of a candidate."""
    check = candidate.check("removal")
    return check.outcome if check else ""


def one_by_one(classifier: Classifier, taps: Taps, held_out: tuple[Tensor, Tensor, Tensor]) -> Told:
    """Return how often the self-test of the layer that each picture chooses comes out how.

    Each outcome beside whether the picture's own map is above the floor.
    """
    told: Told = Counter()
    for index in range(_ASKED):
        one = tuple(each[index : index + 1] for each in held_out)
        fresh = replace(classifier, searches={})  # each picture looks for the layer itself
        choice = fresh.layer_search(one[0][0], int(one[1])).choice
        chosen = choice.candidate(choice.chosen)
        if chosen is None:
            told["no layer", False] += 1
        else:
            found = hit(classifier, taps, chosen, (one[0], one[1], one[2]))
            told[outcome_of(chosen), found.pictures > 0] += 1
    return told


def others_above(classifier: Classifier, held_out: tuple[Tensor, Tensor, Tensor]) -> Above:
    """Return, for each other method that applies, which pictures' maps are above the floor."""
    above: dict[str, list[bool]] = {}
    for name in _OTHERS:
        for target in range(proof.CLASSES):
            pixels, _, masks = (each[held_out[1] == target] for each in held_out)
            with suppress(NotApplicable):
                asked = request(classifier, pixels, target, Config(device="cpu", occlusion_cells=8))
                maps = METHODS[name].explain(asked).maps.clamp_min(0)
                shares = (maps * masks).sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-12)
                better = shares > masks.float().mean((1, 2))
                above.setdefault(name, []).extend(better.tolist())
    return above


def row_of_others(kind: str, found: Sequence[Above]) -> str:
    """Return the row on methods that need no layer, for all networks of a kind."""
    sums = [[each for above in found for each in above.get(name, ())] for name in _OTHERS]
    cells = [kind, str(len(found) * proof.HELD_OUT)]
    cells += [f"{sum(all_) / len(all_):.2f}" if all_ else "does not apply" for all_ in sums]
    return f"| {' | '.join(cells)} |"


def row_of_one(kind: str, told: Told) -> str:
    """Return the row on what reports on one picture say, for all networks of a kind."""
    right, wrong = ({each: told[each, above] for each in _OUTCOMES} for above in (True, False))
    sums = {each: right[each] + wrong[each] for each in _OUTCOMES}
    cells = [kind, str(sum(sums.values()))]
    cells += [f"{sums[each]} ({right[each]})" for each in _OUTCOMES[:2]]
    return f"| {' | '.join([*cells, str(sums[_OUTCOMES[2]])])} |"


def hit(
    classifier: Classifier,
    taps: Taps,
    candidate: LayerCandidate,
    held_out: tuple[Tensor, Tensor, Tensor],
) -> Hit:
    """Return how often Grad-CAM of a candidate lies on what the pictures show."""
    pixels, classes, masks = held_out
    grid = Grid(candidate.height, candidate.width, candidate.layout, candidate.prefix)
    shares, floor = torch.zeros(len(pixels)), masks.float().mean((1, 2))
    for target in classes.unique().tolist():
        chosen = classes == target
        read = classifier.evaluator.feature_gradients(
            pixels[chosen], taps.tap(candidate.name), target
        )
        activation, gradient = (grid.spatial(t) for t in read if t is not None)
        sums = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
        maps = interpolate(sums, pixels.shape[-2:], mode="bilinear")[:, 0]
        maps = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
        shares[chosen] = (maps * masks[chosen]).sum((1, 2))
    better = float((shares > floor).float().mean())
    return Hit(better, float(shares.mean()), float(floor.mean()))


def main() -> None:
    """Train the networks, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/right_layer.md"))
    given = parser.parse_args()
    parts = ["# Is the layer found the right one?", ""]
    parts += [*this_machine(torch.device("cpu")).lines(), "", *_intro(), ""]
    parts += _header(_HEADS)
    of_one: dict[str, Told] = {kind: Counter() for kind in KINDS}
    of_others: dict[str, list[Above]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for seed in range(given.seeds):
            line, told, others = row(kind, seed)
            of_one[kind].update(told)
            of_others[kind].append(others)
            parts.append(line)
            print(line, flush=True)
    parts += ["", *_between(), "", *_header(_HEADS_OF_ONE)]
    parts += [row_of_one(kind, told) for kind, told in of_one.items()]
    parts += ["", _OF_OTHERS, "", *_header(_HEADS_OF_OTHERS)]
    parts += [row_of_others(kind, found) for kind, found in of_others.items()]
    given.out.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _header(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]


def _between() -> Iterator[str]:
    yield (
        f"A report on one picture looks for its layer on that picture. Of {_ASKED} held-out "
        "pictures a network: what the self-test says of the layer shown, and, in brackets, on how "
        "many of these pictures the map is above the floor."
    )


def _intro() -> Iterator[str]:
    yield (
        "Each network is trained in seconds on drawn pictures with known masks, and asked about "
        f"{proof.HELD_OUT} others. A picture is above "
        "the floor where more of its Grad-CAM map lies in the mask than the mask's share of the "
        "picture. The layer is chosen on the first of them."
    )


if __name__ == "__main__":
    main()
