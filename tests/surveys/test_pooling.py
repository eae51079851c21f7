"""Settings are the same on every picture, so that a survey can pool the numbers."""

from __future__ import annotations

from pathlib import Path

import reportgen

SIGNS = Path(__file__).parents[2] / "examples" / "signs"
OPTIONS = {
    "methods": "gradcam,lime,integrated-gradients",
    "metrics": "all",
    "profile": "quick",
    "lime_samples": 40,
    "stability_seeds": 2,
    "fidelity_samples": 20,
    "sanity_stages": 1,
    "road_shares": "0.5",
    "curve_steps": 3,
    "rotation_step": 45.0,
    "size": "64",
}


def test_no_setting_depends_on_the_picture() -> None:
    seen: dict[tuple[str, str], list[object]] = {}
    for name in ("stop", "yield"):
        options = {**OPTIONS, "mask": str(SIGNS / "masks" / f"{name}.png")}
        picture = SIGNS / "pictures" / f"{name}.png"
        report = reportgen.explain(SIGNS / "signs.pt2", picture, options).report
        for measurement in report.measurements:
            key = (measurement.metric, measurement.subject)
            seen.setdefault(key, []).append(dict(measurement.settings))
    differing = {key for key, found in seen.items() if len(found) == 2 and found[0] != found[1]}
    assert differing == set()
