"""Train the demo classifier on freshly drawn road signs and save it as signs.pt2."""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from canvas import SIDE
from draw import LABELS, Picture, draw
from network import SignNet
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

TRAINING_SEEDS = range(2560)
UNSEEN_SEEDS = range(1_000_000, 1_001_200)
EPOCHS = 3
BATCH = 32
PEAK_RATE = 3e-3

MEAN = (0.465, 0.461, 0.425)
STD = (0.219, 0.204, 0.237)
"""Per-channel mean and spread of drawn pictures scaled to [0, 1]."""

METADATA = "reportgen.json"
"""Name, inside the saved file, of the description a reader needs to feed the network."""


class Drawings(NamedTuple):
    """Pictures ready for the network, shape (N, 3, SIDE, SIDE), and labels, shape (N,)."""

    inputs: Tensor
    labels: Tensor


def label_of(seed: int) -> int:
    """Spread the labels evenly over consecutive seeds."""
    return seed % len(LABELS)


def drawings(seeds: range) -> Drawings:
    """Draw one picture per seed, on all processor cores."""
    with ProcessPoolExecutor() as pool:
        pictures = list(pool.map(_picture, seeds, chunksize=32))
    labels = torch.tensor([label_of(seed) for seed in seeds])
    return Drawings(normalised(np.stack(pictures)), labels)


def _picture(seed: int) -> Picture:
    return draw(label_of(seed), np.random.default_rng(seed))[0]


def normalised(pictures: Picture) -> Tensor:
    """Turn uint8 pictures (N, H, W, 3) into network inputs (N, 3, H, W)."""
    scaled = torch.from_numpy(pictures).float() / 255
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def train(network: SignNet, examples: Drawings) -> None:
    """Fit the network in place and leave it in evaluation mode."""
    batches_per_epoch = len(examples.labels) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=EPOCHS * batches_per_epoch
    )
    # A little smoothing keeps the probabilities from saturating, so that they still
    # respond when an explanation method hides part of a picture.
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    network.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(examples.labels))[: batches_per_epoch * BATCH]
        for batch in torch.split(order, BATCH):
            optimizer.zero_grad()
            criterion(network(examples.inputs[batch]), examples.labels[batch]).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def export(network: SignNet) -> ExportedProgram:
    """Capture the network in evaluation mode for any batch size."""
    example = torch.zeros(2, 3, SIDE, SIDE)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        # Stack traces would carry folder names of the training machine into the file.
        node.meta.pop("stack_trace", None)
    # The example would be saved too, at a quarter of the size of all the weights.
    program.example_inputs = None
    return program


def metadata() -> str:
    """JSON text that says how to prepare a picture and how to read the logits."""
    preprocessing = {
        "resize": SIDE,
        "crop": [SIDE, SIDE],
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
    }
    return json.dumps({"labels": LABELS, "preprocessing": preprocessing, "head": "softmax"})


def logits(network: nn.Module, inputs: Tensor) -> Tensor:
    """Run (N, 3, SIDE, SIDE) through the network in small batches; returns (N, classes)."""
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in torch.split(inputs, 64)])


def check_saved(path: Path, network: SignNet, inputs: Tensor) -> nn.Module:
    """Load the saved file and raise unless it does all that the network itself does."""
    loaded = torch.export.load(path).module()
    for size in (1, 3, 64):
        torch.testing.assert_close(
            loaded(inputs[:size]), network(inputs[:size]), atol=1e-5, rtol=1e-5
        )
    probe = inputs[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loaded(probe).max(), probe)
    if not gradient.abs().sum() > 0:
        raise RuntimeError(f"no gradient reaches the input of {path}")
    return loaded


def accuracies(network: nn.Module, examples: Drawings) -> dict[str, float]:
    """Share of right answers for each label and, under "all", overall."""
    right = (logits(network, examples.inputs).argmax(dim=1) == examples.labels).float()
    shares = {
        label: float(right[examples.labels == index].mean()) for index, label in enumerate(LABELS)
    }
    return {**shares, "all": float(right.mean())}


def main() -> None:
    """Command line: draw, train, save, and measure the saved file on unseen drawings."""
    parser = argparse.ArgumentParser(description="Train and save the road sign classifier.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    path = parser.parse_args().out / "signs.pt2"
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    torch.manual_seed(0)
    network = SignNet(len(LABELS))
    train(network, drawings(TRAINING_SEEDS))
    torch.export.save(export(network), path, extra_files={METADATA: metadata()})
    unseen = drawings(UNSEEN_SEEDS)
    loaded = check_saved(path, network, unseen.inputs)
    weights = sum(weight.numel() for weight in network.parameters())
    print(f"{weights} weights, {path.stat().st_size} bytes, torch {torch.__version__}")
    print(f"{len(unseen.labels)} unseen drawings, classified by the saved file:")
    for label, share in accuracies(loaded, unseen).items():
        print(f"  {label:<20} {share:.2%}")
    print(f"{time.perf_counter() - started:.0f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
