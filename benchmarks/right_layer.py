"""Whether Grad-CAM of the layer found lies on what is shown: small networks, trained by seed.

    python benchmarks/right_layer.py [--seeds 5] [--out FILE.md]

Networks and pictures are those of ``tests/classifier/test_right_layer.py``, and one kind more, a
transformer that reads its class token. Each is trained in seconds on pictures whose masks are
known.
The table says on which share of the held-out pictures more of the map lies in the mask than the
mask's share of the picture, for the layer chosen and for the best of the other candidates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import this_machine
from torch import Tensor, nn
from torch.nn.functional import interpolate

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "classifier")]

import test_right_layer as proof  # noqa: E402

from reportgen.classifier.classifier import Classifier  # noqa: E402
from reportgen.classifier.grids import Grid  # noqa: E402
from reportgen.classifier.taps import Taps, taps_of  # noqa: E402
from reportgen.layer_records import LayerCandidate  # noqa: E402

_HEADS = (
    "network", "seed", "accuracy", "layer chosen", "grid", "pictures above floor",
    "mean share (floor)", "best other candidate", "its pictures above floor",
)  # fmt: skip


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


def row(kind: str, seed: int) -> str:
    """Return the row of the table for one kind of network and one seed."""
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
    accuracy = float((found == classes).float().mean())
    chosen = choice.candidate(choice.chosen)
    own = hits.pop(choice.chosen, None)
    best = max(hits, key=lambda name: hits[name].pictures, default="")
    cells = [kind, str(seed), f"{accuracy:.2f}"]
    if own and chosen:
        grid = f"{chosen.height}x{chosen.width}"
        share = f"{own.inside:.2f} ({own.floor:.2f})"
        cells += [chosen.name, grid, f"{own.pictures:.2f}", share]
    else:
        cells += [f"none: {choice.reason}", "", "", ""]
    cells += [best, f"{hits[best].pictures:.2f}"] if best else ["", ""]
    return f"| {' | '.join(cells)} |"


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
    for target in range(proof.CLASSES):
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
    parts += [f"| {' | '.join(_HEADS)} |", "|" + "---|" * len(_HEADS)]
    for kind in KINDS:
        for seed in range(given.seeds):
            parts.append(row(kind, seed))
            print(parts[-1], flush=True)
    given.out.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _intro() -> Iterator[str]:
    yield (
        "Each network is trained in seconds on drawn pictures with known masks, and asked about "
        f"{proof.HELD_OUT} others. A picture is above "
        "the floor where more of its Grad-CAM map lies in the mask than the mask's share of the "
        "picture. The layer is chosen on the first of them."
    )


if __name__ == "__main__":
    main()
