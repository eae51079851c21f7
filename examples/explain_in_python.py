"""Explain a picture with a module of one's own, and save the report.

The network here has random weights: put yours in its place. Run: python explain_in_python.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import reportgen

HERE = Path(__file__).parent


def main() -> None:
    """Explain one of the example pictures and print what was found."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=5, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    options = {"profile": "quick", "size": "96", "methods": "gradcam,integrated-gradients"}
    explanation = reportgen.explain(network, HERE / "signs" / "pictures" / "stop.png", options)
    for finding in explanation.report.findings:
        print(f"{finding.severity}: {finding.statement}")
    for path in explanation.save("out/python"):
        print(path)


if __name__ == "__main__":
    main()
