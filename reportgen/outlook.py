"""A forecast in words, for the command line."""

from __future__ import annotations

from reportgen.classifier.memory import spelled
from reportgen.preflight import Forecast

_NAMED = 3


def table(found: Forecast) -> str:
    """Return one line for each method and metric, and one for all of them together."""
    lines = [
        f"  {step.name:<22}{step.work.forward:>7} forward {step.work.backward:>6} backward "
        f"{lasting(step.seconds):>9}"
        for step in found.steps
    ]
    return "\n".join([*lines, total(found)])


def line(found: Forecast) -> str:
    """Return the total, and the steps that will take longest."""
    longest = sorted(found.steps, key=lambda step: -step.seconds)[:_NAMED]
    names = ", ".join(f"{step.name} {lasting(step.seconds)}" for step in longest if step.seconds)
    return f"{total(found)}; longest, for each picture: {names or 'none'}"


def total(found: Forecast) -> str:
    """Return pictures, passes, seconds and memory."""
    reports = "" if found.pictures == 1 else f"{found.pictures} pictures, "
    reports += "" if found.targets == 1 else f"{found.targets} targets, "
    memory = "" if found.memory is None else f", {spelled(found.memory)} for a pass and the model"
    return (
        f"{reports}about {found.work.forward} forward and {found.work.backward} backward passes, "
        f"{lasting(found.seconds)} on {found.device} in batches of {found.batch_size}{memory}"
    )


def lasting(seconds: float) -> str:
    """Return a duration with about two digits, as it is not known better."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
