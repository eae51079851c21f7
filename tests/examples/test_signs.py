"""The drawn road signs, and the classifier saved next to the code that draws and trains."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import disk, erosion

SIGNS = Path(__file__).parents[2] / "examples" / "signs"
sys.path.append(str(SIGNS))

from canvas import SIDE  # noqa: E402
from draw import LABELS, SAMPLES, draw, main, numbered_samples, write_samples  # noqa: E402
from train import TRAINING_SEEDS, UNSEEN_SEEDS, label_of  # noqa: E402

FRESH_SEEDS = range(3_000_000, 3_000_400)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """Fresh drawings: pictures (N, H, W, 3), masks (N, H, W) and label indices (N,)."""

    pictures: Pixels
    masks: Pixels
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Saved:
    """What signs.pt2 holds."""

    network: torch.nn.Module
    metadata: dict[str, Any]

    def logits(self, pictures: Pixels) -> torch.Tensor:
        """Classify pictures (N, H, W, 3), prepared as the file itself says."""
        preprocessing = self.metadata["preprocessing"]
        mean, std = (torch.tensor(preprocessing[name]) for name in ("mean", "std"))
        inputs = ((torch.from_numpy(pictures) / 255 - mean) / std).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return torch.cat([self.network(part) for part in torch.split(inputs, 50)])


@pytest.fixture(scope="module")
def fresh() -> Drawn:
    labels = np.array([label_of(seed) for seed in FRESH_SEEDS])
    drawn = [
        draw(int(label), np.random.default_rng(seed))
        for label, seed in zip(labels, FRESH_SEEDS, strict=True)
    ]
    pictures, masks = (np.stack(part) for part in zip(*drawn, strict=True))
    return Drawn(pictures, masks, labels)


@pytest.fixture(scope="module")
def saved() -> Saved:
    files = {"reportgen.json": ""}
    program = torch.export.load(SIGNS / "signs.pt2", extra_files=files)
    return Saved(program.module(), json.loads(files["reportgen.json"]))


def kept(kind: str, name: str) -> Pixels:
    with Image.open(SIGNS / kind / f"{name}.png") as image:
        return np.array(image)


def test_every_sort_of_seed_is_used_for_one_purpose_only() -> None:
    samples = {sample.seed for sample in SAMPLES.values()}
    groups = [set(TRAINING_SEEDS), set(UNSEEN_SEEDS), set(FRESH_SEEDS), samples]
    assert len(set.union(*groups)) == sum(len(group) for group in groups)


@pytest.mark.parametrize("label", range(8))
def test_the_same_seed_gives_the_same_bytes(label: int) -> None:
    first, again = (draw(label, np.random.default_rng(7)) for _ in range(2))
    assert [part.tobytes() for part in first] == [part.tobytes() for part in again]
    assert [part.shape for part in first] == [(SIDE, SIDE, 3), (SIDE, SIDE)]
    assert [part.dtype for part in first] == [np.uint8, np.uint8]


@pytest.mark.parametrize("label", range(8))
def test_another_seed_gives_another_picture(label: int) -> None:
    first, other = (draw(label, np.random.default_rng(seed)) for seed in (7, 8))
    assert (first[0] != other[0]).mean() > 0.5
    assert (first[1] != other[1]).any()


def test_masks_are_binary_and_of_moderate_area(fresh: Drawn) -> None:
    assert set(np.unique(fresh.masks)) == {0, 255}
    areas = (fresh.masks == 255).mean(axis=(1, 2))
    assert areas.min() > 0.08
    assert areas.max() < 0.40
    assert areas.std() > 0.05


def test_signs_stand_anywhere_but_inside_the_picture(fresh: Drawn) -> None:
    rows, columns = (np.array(axis) for axis in zip(*map(centre, fresh.masks), strict=True))
    assert min(rows.std(), columns.std()) > 0.07 * SIDE
    inner = np.pad(np.zeros((SIDE - 4, SIDE - 4), dtype=bool), 2, constant_values=True)
    assert not fresh.masks[:, inner].any()


def centre(mask: Pixels) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def test_the_white_rim_of_the_sign_lies_where_its_mask_ends(fresh: Drawn) -> None:
    rimmed = [LABELS.index(label) for label in ("stop", "no entry", "turn right", "roundabout")]
    brightness: dict[tuple[int, int], list[float]] = {}
    for index in np.flatnonzero(np.isin(fresh.labels, rimmed)):
        rim = fresh.masks[index] > erosion(fresh.masks[index], disk(1))
        for down in (-2, 0, 2):
            for across in (-2, 0, 2):
                shifted = np.roll(rim, (down, across), axis=(0, 1))
                level = float(fresh.pictures[index][shifted].mean())
                brightness.setdefault((down, across), []).append(level)
    levels = {shift: np.mean(values) for shift, values in brightness.items()}
    assert max(levels, key=lambda shift: levels[shift]) == (0, 0)


def test_six_pictures_of_different_classes_are_kept_with_their_masks() -> None:
    assert len({sample.label for sample in SAMPLES.values()}) == 6
    for kind in ("pictures", "masks"):
        assert {path.name for path in (SIGNS / kind).iterdir()} == {f"{n}.png" for n in SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_kept_mask_fits_its_picture(name: str) -> None:
    picture, mask = kept("pictures", name), kept("masks", name)
    assert picture.shape == (*mask.shape, 3)
    assert set(np.unique(mask)) == {0, 255}


def test_the_kept_pictures_are_those_the_code_draws(tmp_path: Path) -> None:
    write_samples(SAMPLES, tmp_path)
    for name in SAMPLES:
        for kind in ("pictures", "masks"):
            with Image.open(tmp_path / kind / f"{name}.png") as image:
                difference = np.array(image, dtype=float) - kept(kind, name)
            # Another build of numpy or Pillow may round a few pixels differently.
            assert np.abs(difference).mean() < 0.5


def test_the_command_line_draws_as_many_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["draw.py", "--out", str(tmp_path), "--count", "9"])
    main()
    names = {f"{name}.png" for name in numbered_samples(9)}
    assert len(names) == 9
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == names
    assert {path.name for path in (tmp_path / "masks").iterdir()} == names


def test_the_saved_file_is_small_and_describes_itself(saved: Saved) -> None:
    assert (SIGNS / "signs.pt2").stat().st_size < 2_000_000
    assert saved.metadata["labels"] == list(LABELS)
    assert saved.metadata["head"] == "softmax"
    preprocessing = saved.metadata["preprocessing"]
    assert preprocessing["resize"] == SIDE
    assert preprocessing["crop"] == [SIDE, SIDE]
    assert preprocessing["interpolation"] == "bilinear"
    assert len(preprocessing["mean"]) == len(preprocessing["std"]) == 3


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_saved_network_takes_any_batch_and_passes_gradients(saved: Saved, batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    inputs = torch.randn(batch, 3, SIDE, SIDE, generator=generator, requires_grad=True)
    logits = saved.network(inputs)
    assert logits.shape == (batch, len(LABELS))
    (gradient,) = torch.autograd.grad(logits.sum(), inputs)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_saved_network_classifies_fresh_drawings(saved: Saved, fresh: Drawn) -> None:
    answers = saved.logits(fresh.pictures).argmax(dim=1).numpy()
    assert (answers == fresh.labels).mean() >= 0.98


@pytest.mark.parametrize("name", SAMPLES)
def test_the_kept_pictures_are_classified_correctly(saved: Saved, name: str) -> None:
    answer = int(saved.logits(kept("pictures", name)[None]).argmax())
    assert LABELS[answer] == SAMPLES[name].label
