"""Draw pictures of road signs in street scenes, with an exact mask of each sign.

Nothing is downloaded or read from disk: every picture is a pure function of a
label and a random generator, so the same seed always gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from canvas import SIDE, Canvas, Points, mix, varied
from faces import FACES, Face
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scenery import STEEL, paint_scene

LABELS: tuple[str, ...] = tuple(FACES)
"""The eight classes, in the order of the network's outputs."""

AREA = (0.09, 0.34)
"""Smallest and largest share of the picture that a sign is made to cover."""

MARGIN = 0.03
CAMERA_DISTANCE = 4.0

SAMPLE_SEEDS = range(2_000_000, 3_000_000)
"""Seeds of pictures to look at; `train.py` and its measurements use none of them."""

Picture = NDArray[np.uint8]
Scene = NDArray[np.float64]


class Sample(NamedTuple):
    """What it takes to draw one particular picture."""

    label: str
    seed: int


SAMPLES: dict[str, Sample] = {
    "stop": Sample("stop", 2_000_007),
    "yield": Sample("yield", 2_000_008),
    "priority_road": Sample("priority road", 2_000_005),
    "roundabout": Sample("roundabout", 2_000_002),
    "speed_limit_50": Sample("speed limit 50", 2_000_006),
    "pedestrian_crossing": Sample("pedestrian crossing", 2_000_004),
}
"""The pictures kept next to this file, by file name."""


class Pose(NamedTuple):
    """Where a face ends up in the picture."""

    turn: NDArray[np.float64]
    """Rotation matrix, shape (3, 3)."""
    scale: float
    centre: NDArray[np.float64]

    def place(self, points: Points) -> Points:
        """Map face coordinates (K, 2) in [-1, 1] to picture coordinates in [0, 1]."""
        return _project(points, self.turn) * self.scale + self.centre


def draw(label_index: int, generator: np.random.Generator) -> tuple[Picture, Picture]:
    """Draw one road sign in a random scene.

    Returns the RGB picture, shape (SIDE, SIDE, 3), and the mask of the sign's
    board without its pole, shape (SIDE, SIDE), 255 on the board and 0 elsewhere.
    """
    face = FACES[LABELS[label_index]]()
    pose = _random_pose(face[0].points, generator)
    scenery = Canvas("RGB")
    paint_scene(scenery, generator)
    sign = _sign_layer(face, pose, generator)
    backdrop = scenery.reduced().filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 1.3)))
    backdrop.paste(sign, mask=sign.getchannel("A"))
    scene = _lit(np.asarray(backdrop, dtype=np.float64), generator)
    return _photographed(scene, generator), _mask(face, pose)


def _random_pose(board: Points, generator: np.random.Generator) -> Pose:
    """Turn the board in space, then scale and shift it to lie inside the picture."""
    yaw, pitch, roll = np.radians(generator.uniform((-38, -18, -12), (38, 18, 12)))
    turn = _rotation(yaw, pitch, roll)
    outline = _project(board, turn)
    low, high = outline.min(axis=0), outline.max(axis=0)
    wanted = np.sqrt(generator.uniform(*AREA) / _area(outline))
    scale = min(float(wanted), (1 - 2 * MARGIN) / float((high - low).max()))
    centre = generator.uniform(MARGIN - low * scale, 1 - MARGIN - high * scale)
    return Pose(turn, scale, centre)


def _rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) for angles in radians: roll first, then pitch, then yaw."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z)


def _project(points: Points, turn: NDArray[np.float64]) -> Points:
    """Turn flat points (K, 2) in space and view them in perspective, shape (K, 2)."""
    turned = points @ turn[:, :2].T
    return np.asarray(turned[:, :2] * CAMERA_DISTANCE / (CAMERA_DISTANCE + turned[:, 2:]))


def _area(outline: Points) -> float:
    """Area of a simple polygon (shoelace formula)."""
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _sign_layer(face: Face, pose: Pose, generator: np.random.Generator) -> Image.Image:
    """The sign and its pole on a transparent RGBA layer of SIDE x SIDE pixels."""
    layer = Canvas("RGBA")
    _paint_pole(layer, pose, generator)
    fading = generator.uniform(0.0, 0.25)
    for points, colour in face:
        worn = varied(mix(colour, (150, 150, 150), fading), 3, generator)
        layer.polygon(pose.place(points), worn)
    return layer.reduced()


def _paint_pole(layer: Canvas, pose: Pose, generator: np.random.Generator) -> None:
    width = pose.scale * generator.uniform(0.05, 0.09)
    foot = pose.centre + np.array([generator.normal(0.0, 0.02), 1.2])
    sideways = np.array([width, 0.0])
    steel = varied(STEEL, 16, generator)
    for start, stop, shade in ((-1.0, 1.0, 0.0), (0.2, 1.0, 0.45)):
        corners = [pose.centre + start * sideways, pose.centre + stop * sideways]
        corners += [foot + stop * sideways, foot + start * sideways]
        layer.polygon(np.stack(corners), mix(steel, (30, 30, 34), shade))


def _mask(face: Face, pose: Pose) -> Picture:
    """The board alone: a pixel belongs to it if the board covers half of it or more."""
    canvas = Canvas("L")
    canvas.polygon(pose.place(face[0].points), 255)
    covered = np.asarray(canvas.reduced()) >= 128
    return np.where(covered, 255, 0).astype(np.uint8)


def _lit(scene: Scene, generator: np.random.Generator) -> Scene:
    """Light a scene (SIDE, SIDE, 3) in [0, 255]: exposure, tint, gradient, shadow, mottling."""
    down, across = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    angle = generator.uniform(0, 2 * np.pi)
    slope = generator.uniform(0.0, 0.35)
    light = 1 + slope * (np.cos(angle) * across + np.sin(angle) * down)
    light *= generator.uniform(0.72, 1.2)
    light *= 1 + 0.03 * _smooth_noise(generator, 24)
    if generator.random() < 0.45:
        light *= _shadow(generator)
    tint = 1 + generator.normal(0.0, 0.03, size=3)
    return np.asarray(scene * light[:, :, None] * tint)


def _shadow(generator: np.random.Generator) -> NDArray[np.float64]:
    """Dappled shade with soft edges: factors in (0, 1] of shape (SIDE, SIDE)."""
    patches = _smooth_noise(generator, int(generator.integers(3, 7)))
    depth = generator.uniform(0.2, 0.5)
    return np.asarray(1 - depth / (1 + np.exp(-8 * (patches - generator.uniform(0.0, 0.6)))))


def _smooth_noise(generator: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Noise that varies over SIDE / cells pixels, shape (SIDE, SIDE), about unit spread."""
    coarse = Image.fromarray(generator.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)


def _photographed(scene: Scene, generator: np.random.Generator) -> Picture:
    """What a camera makes of a lit scene: slight blur, then sensor noise, then 8 bits."""
    exposed = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    focused = exposed.filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 0.7)))
    grain = generator.normal(0.0, generator.uniform(1.0, 6.0), size=scene.shape)
    return np.clip(np.asarray(focused) + grain, 0, 255).round().astype(np.uint8)


def numbered_samples(count: int) -> dict[str, Sample]:
    """The first `count` sample seeds, with the labels taken in turn."""
    samples = {}
    for number, seed in enumerate(SAMPLE_SEEDS[:count]):
        label = LABELS[number % len(LABELS)]
        samples[f"{number:04d}_{label.replace(' ', '_')}"] = Sample(label, seed)
    return samples


def write_samples(samples: dict[str, Sample], folder: Path) -> None:
    """Write folder/pictures/NAME.png and folder/masks/NAME.png for every sample."""
    for kind in ("pictures", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, (label, seed) in samples.items():
        picture, mask = draw(LABELS.index(label), np.random.default_rng(seed))
        Image.fromarray(picture).save(folder / "pictures" / f"{name}.png", optimize=True)
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png", optimize=True)


def main() -> None:
    """Command line: write the kept pictures and masks, or any number of new ones."""
    parser = argparse.ArgumentParser(description="Draw pictures of road signs and their masks.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    parser.add_argument("--count", type=int, help="draw this many instead of the six kept here")
    options = parser.parse_args()
    samples = SAMPLES if options.count is None else numbered_samples(options.count)
    write_samples(samples, options.out)


if __name__ == "__main__":
    main()
