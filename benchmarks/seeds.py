"""Two published tables, measured again with reportgen on pictures and weights at hand.

    python benchmarks/seeds.py [--assets FOLDER] [--out benchmarks/results/seeds.md]

The first is the overlap of Grad-CAM and LIME on ten ImageNet pictures; the second compares
Grad-CAM and Integrated Gradients of two networks, where masks say what is on the pictures. The
published values were made with other weights, and partly with definitions that are not stated:
they stand beside ours for comparison, not as a target.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, pstdev

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage.filters import threshold_otsu

import reportgen
from reportgen.records import Report

Mask = NDArray[np.bool_]

OVERLAP_OPTIONS = {
    "methods": "gradcam,lime",
    "metrics": "",
    "segmentation": "quickshift",
    "lime_samples": 500,
    "lime_fill": "black",
}
SHOWN = 15
PUBLISHED_OVERLAPS = {
    "n01616318_vulture": 0.635219,
    "n04037443_racer": 0.614321,
    "n01677366_common_iguana": 0.529343,
    "n02098286_West_Highland_white_terrier": 0.517026,
    "n07747607_orange": 0.507951,
    "n01443537_goldfish": 0.461472,
    "n02007558_flamingo": 0.357025,
    "n02018207_American_coot": 0.339328,
    "n01491361_tiger_shark": 0.336992,
    "n01608432_kite": 0.324294,
}

MODELS = {
    "MobileNetV2": "mobilenet_v2_imagenet.pth",
    "SqueezeNet 1.1": "squeezenet1_1_imagenet.pth",
}
TABLE_OPTIONS = {
    "methods": "gradcam,integrated-gradients",
    "metrics": "deletion,insertion,confidence,localisation,complexity,randomisation",
    "ig_postprocessing": "smooth-equalise-otsu",
    "curve_steps": 10,
}


@dataclass(frozen=True)
class Line:
    """One line of the second table: what it is, the quantity here, and the published values.

    ``published`` holds Grad-CAM of ResNet-50 and DenseNet-121, then Integrated Gradients of both.
    """

    title: str
    quantity: str
    published: tuple[str, str, str, str]
    remark: str = ""


ENTROPY = "entropy"
LINES = (
    Line("IoU (Otsu) ↑", "iou_otsu", ("0.3947", "0.5515", "0.2096", "0.2229")),
    Line("Precision (Otsu) ↑", "precision_otsu", ("0.4007", "0.5681", "0.2988", "0.2843")),
    Line("Recall (Otsu) ↑", "recall_otsu", ("0.9636", "0.9496", "0.4127", "0.5077")),
    Line("Pointing game ↑", "pointing_game", ("1", "1", "0", "1")),
    Line(
        "Average drop ↓",
        "average_drop",
        ("99.9999 %", "99.9999 %", "9.9999 %", "23.7538 %"),
        "99.9999 % for both networks alike, and the line below is its exact negative: the two are "
        "not separate measurements.",
    ),
    Line(
        "Increase in confidence ↑",
        "increase_in_confidence",
        ("-99.9999 %", "-99.9999 %", "-9.9999 %", "-23.7538 %"),
        "A share of pictures cannot be negative.",
    ),
    Line(
        "Deletion AUC ↓",
        "deletion",
        ("6.88", "4.55", "9.28", "9.28"),
        "An area under a probability lies in [0, 1]; the text calls higher better where the table "
        "says lower; and Integrated Gradients have one value for both networks.",
    ),
    Line(
        "Insertion AUC ↑",
        "insertion",
        ("4.45", "7.78", "0.94", "0.94"),
        "Outside [0, 1] as above, and equal for two networks.",
    ),
    Line(
        "Complexity (entropy / ln N) ↓",
        ENTROPY,
        ("0.9451", "0.9648", "0.0500", "0.0500"),
        "Scale not stated; 0.0500 for both networks is what a threshold that keeps 5 % of the "
        "pixels would leave of any map.",
    ),
    Line(
        "Similarity under random weights ↓",
        "randomised_spearman",
        ("0.75", "0.75", "0.0054", "0.0054"),
        "Scale not stated, and equal for two networks; the text speaks of repeated runs, which is "
        "another test.",
    ),
)


def lime_overlap(model: Path, picture: Path) -> dict[str, float]:
    """Return how far Grad-CAM and the fifteen segments for the class overlap, both ways.

    "otsu" cuts Grad-CAM at Otsu's threshold; "equal area" at as many pixels as LIME's mask has.
    """
    arrays = reportgen.explain(model, picture, OVERLAP_OPTIONS).arrays
    cam, lime = (arrays[f"map.{key}"].astype(float) for key in ("gradcam", "lime"))
    shown = lime >= np.unique(lime[lime > 0])[-SHOWN:][0]
    largest = cam >= np.sort(cam, axis=None)[-int(shown.sum())]
    return {
        "otsu": overlap(cam > threshold_otsu(cam), shown),
        "equal area": overlap(largest, shown),
    }


def overlap(a: Mask, b: Mask) -> float:
    """Return intersection over union."""
    return float((a & b).sum() / (a | b).sum())


def masked_pictures(assets: Path) -> list[tuple[Path, Path]]:
    """Return the pictures that have a mask, each with it."""
    folders = [assets / "images" / "imagenet", assets / "images" / "extra"]
    pictures = {path.stem: path for folder in folders for path in sorted(folder.iterdir())}
    found = [(pictures[m.stem], m) for m in sorted((assets / "masks" / "imagenet").iterdir())]
    voc = sorted((assets / "masks" / "voc_labelme").glob("*.jpg"))
    bird = assets / "masks" / "coral"
    return [
        *found,
        *((picture, picture.with_suffix(".png")) for picture in voc),
        (bird / "bird_segmentation.bmp", bird / "bird_segmentation_mask.bmp"),
    ]


def overlap_section(assets: Path) -> Iterator[str]:
    """Yield the lines of the first table."""
    model = assets / "weights" / MODELS["MobileNetV2"]
    pictures = sorted((assets / "images" / "imagenet").iterdir())
    found = {picture.stem: lime_overlap(model, picture) for picture in pictures}
    yield "## Overlap of Grad-CAM and LIME on ten pictures\n"
    yield (
        "Published: ResNet-50, LIME with 500 samples, the 15 largest segments, hide colour 0; the "
        "threshold on Grad-CAM is not stated. Here: MobileNetV2, the same counts and hide colour, "
        "quickshift segments.\n"
    )
    yield "| picture | published | here, Otsu | here, equal area |\n|---|---|---|---|"
    for name, published in PUBLISHED_OVERLAPS.items():
        here = found[name]
        yield f"| {name} | {published:.3f} | {here['otsu']:.3f} | {here['equal area']:.3f} |"
    columns = [
        list(PUBLISHED_OVERLAPS.values()),
        *([found[name][key] for name in PUBLISHED_OVERLAPS] for key in ("otsu", "equal area")),
    ]
    summaries = {"mean": fmean, "median": median, "standard deviation of the ten": pstdev}
    for title, summary in summaries.items():
        yield f"| **{title}** | {' | '.join(f'{summary(column):.3f}' for column in columns)} |"
    orders = (spearmanr(columns[0], column) for column in columns[1:])
    words = " | ".join(f"{order.statistic:+.2f} (p {order.pvalue:.2f})" for order in orders)
    yield f"| **rank correlation with the published order** | | {words} |\n"


def table_section(assets: Path) -> Iterator[str]:
    """Yield the lines of the second table."""
    pictures = masked_pictures(assets)
    found = {title: _measured(assets, file, pictures) for title, file in MODELS.items()}
    yield "## Grad-CAM and Integrated Gradients of two networks\n"
    yield (
        f"Published: ResNet-50 and DenseNet-121 on one cat. Here: the median over {len(pictures)} "
        "masked pictures, with quartiles. Integrated Gradients are smoothed (sigma 3), equalised "
        "and cut at Otsu's threshold in both.\n"
    )
    for place, method in enumerate(("gradcam", "integrated-gradients")):
        title = ("Grad-CAM", "Integrated Gradients")[place]
        yield f"### {title}\n"
        yield f"| metric | ResNet-50, published | DenseNet-121, published | {' | '.join(MODELS)} |"
        yield "|---|---|---|---|---|"
        for line in LINES:
            shown = line.published[2 * place : 2 * place + 2]
            ours = (_quartiles(found[model][method, line.quantity]) for model in MODELS)
            yield f"| {line.title} | {' | '.join((*shown, *ours))} |"
        yield ""
    yield "Values of the published table that cannot be what they are called:\n"
    yield from (f"- {line.title.split(' (')[0]}: {line.remark}" for line in LINES if line.remark)


def _measured(
    assets: Path, weights: str, pictures: list[tuple[Path, Path]]
) -> dict[tuple[str, str], list[float]]:
    """Return the values of each method and quantity over the pictures."""
    found: dict[tuple[str, str], list[float]] = {
        (method, line.quantity): []
        for method in ("gradcam", "integrated-gradients")
        for line in LINES
    }
    labels = str(assets / "labels" / "imagenet_classes.txt")
    for picture, mask in pictures:
        options = {**TABLE_OPTIONS, "mask": str(mask), "labels": labels}
        report = reportgen.explain(assets / "weights" / weights, picture, options).report
        for (method, quantity), values in found.items():
            measured = report.measurement(quantity, method)
            if measured is not None and measured.value is not None:
                values.append(measured.value / _scale(report, quantity))
    return found


def _scale(report: Report, quantity: str) -> float:
    """Return what a value is divided by: ln N for the entropy over N pixels, else 1."""
    height, width = report.model.preprocessing.crop
    return math.log(height * width) if quantity == ENTROPY else 1.0


def _quartiles(values: list[float]) -> str:
    if not values:
        return "not measured"
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.3f} ({low:.3f} to {high:.3f}, n {len(values)})"


def heading(command: str) -> Iterator[str]:
    """Yield the title, and what machine, versions and command made the figures."""
    yield "# Two published tables, measured again\n"
    yield (
        f"Made by `{command}` with reportgen {reportgen.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, on {os.cpu_count()} cores "
        f"({platform.machine()}), device cpu.\n"
    )


def main() -> None:
    """Measure both tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=Path, default=os.environ.get("REPORTGEN_ASSETS"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/seeds.md"))
    options = parser.parse_args()
    if options.assets is None or not Path(options.assets).is_dir():
        parser.error("give the folder of weights, pictures and masks with --assets")
    lines = [*heading("python benchmarks/seeds.py"), *overlap_section(Path(options.assets))]
    lines += table_section(Path(options.assets))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
