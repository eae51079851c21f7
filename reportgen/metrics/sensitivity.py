"""How much each map changes when the picture changes by less than can be seen."""

from __future__ import annotations

import torch
from pydantic import JsonValue
from torch import Tensor

from reportgen.config import Config
from reportgen.errors import NotApplicable, ReportgenError
from reportgen.metrics.base import LOWER, Context, Measured, Metric
from reportgen.perturbation.corruption import small_noise
from reportgen.records import Card, Measurement, Skipped

SENSITIVITY = Card(
    key="sensitivity",
    title="Max-sensitivity",
    category="robustness of the map",
    definition="The largest relative change of the map (Frobenius norm) over copies of the picture "
    "with uniform noise of at most the radius in each channel value.",
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, "
    "arXiv 1901.09392",
    direction=LOWER,
    range=(0, None),
    needs="the method, once a copy",
    seeding="the copies are seeded; LIME and SHAP use the same maskings on all of them",
    limits="The largest of few copies, so a lower bound. A map that ignores the picture scores "
    "perfectly: read it beside fidelity. LIME, SHAP and Integrated Gradients are measured with "
    "the reduced counts shown, on the picture and on its copies alike.",
)


def reduced(config: Config) -> Config:
    """Return the options under which maps are made again and again."""
    return config.model_copy(
        update={
            "lime_samples": min(config.lime_samples, config.sensitivity_samples),
            "shap_evals": min(config.shap_evals, config.sensitivity_samples),
            "ig_steps": min(config.ig_steps, config.sensitivity_steps),
        }
    )


def _sensitivity(context: Context) -> Measured:
    if not context.maps:
        raise NotApplicable("there is no map whose stability could be measured")
    config = context.config
    copies = small_noise(
        context.pixels, config.sensitivity_radius, config.sensitivity_draws, config.seed
    )
    pixels = torch.cat([context.pixels[None], copies])
    found: list[Measurement] = []
    skipped: list[Skipped] = []
    for method in context.maps:
        try:
            found.append(_measured(context, method, pixels))
        except Exception as error:  # one failing method never costs the user the others
            skipped.append(Skipped(step="sensitivity", subject=method, reason=_reason(error)))
    return Measured(tuple(found), skipped=tuple(skipped))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ReportgenError) else f"{type(error).__name__}: {error}"


def relative_changes(maps: Tensor) -> Tensor | None:
    """Return how far maps 1.. of (n, H, W) are from map 0, as a share of its norm.

    None where that norm is 0.
    """
    norm = maps[0].double().norm()
    if norm == 0:
        return None
    changes: Tensor = (maps[1:].double() - maps[0].double()).flatten(1).norm(dim=1)
    return changes.div(norm)


def _measured(context: Context, method: str, pixels: Tensor) -> Measurement:
    maps = context.explain(method, pixels, reduced(context.config))
    if not bool(maps.isfinite().all()):
        raise NotApplicable("the map of a noisy copy holds NaN or infinite values")
    changes = relative_changes(maps)
    return Measurement(
        metric="sensitivity",
        subject=method,
        value=None if changes is None else float(changes.max()),
        direction=LOWER,
        range=(0, None),
        settings=_settings(context.config),
        detail={} if changes is None else {"copies": [float(change) for change in changes]},
        note="the map is zero everywhere" if changes is None else "",
    )


def _settings(config: Config) -> dict[str, JsonValue]:
    used = reduced(config)
    return {
        "radius": config.sensitivity_radius,
        "draws": config.sensitivity_draws,
        "LIME samples": used.lime_samples,
        "SHAP evaluations": used.shap_evals,
        "Integrated Gradients steps": used.ig_steps,
        "seed": config.seed,
    }


METRIC = Metric(SENSITIVITY, _sensitivity)
