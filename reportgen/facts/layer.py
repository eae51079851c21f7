"""Facts about the layer that class activation maps look at, and about how it was chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import JsonValue

from reportgen.facts.formats import count, decimal, listed, percent, spread
from reportgen.facts.sources import pointer
from reportgen.layer_records import LayerCandidate, LayerCheck, LayerChoice
from reportgen.phrases import named, phrase
from reportgen.records import Fact, Report

# The checks, in the order of the table; a phrase says what each asks.
LAYER_CHECKS = ("finite", "varied", "positive", "class", "place", "removal")
_NUMBERS: Mapping[str, Callable[[float], str]] = {
    "varied": percent,
    "positive": percent,
    "class": decimal,
    "place": lambda right: phrase("spots", right=count(right)),
    "removal": decimal,
}


def layer_facts(report: Report) -> Iterator[Fact]:
    """Return the layer and the runner-up with their self-tests, where a layer was looked for."""
    choice = report.layer
    if choice is None:
        return
    for role, name in (("layer", choice.chosen), ("layer.runner_up", choice.runner_up)):
        candidate = choice.candidate(name)
        if candidate is not None:
            yield from _candidate(role, candidate, choice.candidates.index(candidate))
    if choice.chosen:
        yield from _choice(choice)


def _candidate(role: str, candidate: LayerCandidate, index: int) -> Iterator[Fact]:
    where = ("layer", "candidates", index)
    yield Fact(
        name=f"{role}.name",
        value=candidate.name,
        text=candidate.name,
        source=pointer(*where, "name"),
    )
    grid: list[JsonValue] = [candidate.height, candidate.width]
    text = f"{candidate.height}x{candidate.width}"
    yield Fact(name=f"{role}.grid", value=grid, text=text, source=pointer(*where))
    layout, source = candidate.layout, pointer(*where, "layout")
    yield Fact(name=f"{role}.layout", value=layout, text=_layout(candidate), source=source)
    channels = candidate.channels
    source = pointer(*where, "channels")
    yield Fact(name=f"{role}.channels", value=channels, text=str(channels), source=source)
    for place, check in enumerate(candidate.checks):
        name, source = f"{role}.{check.key}", pointer(*where, "checks", place)
        yield Fact(name=name, value=check.outcome == "passes", text=_said(check), source=source)


def _layout(candidate: LayerCandidate) -> str:
    order = named("axes", candidate.layout)
    return phrase("layout", layout=order, prefix=candidate.prefix) if candidate.prefix else order


def _said(check: LayerCheck) -> str:
    outcome = phrase(f"outcome.{check.outcome}")
    if check.value is None or check.key not in _NUMBERS:
        return outcome
    return phrase("outcome-value", outcome=outcome, value=_NUMBERS[check.key](check.value))


def _choice(choice: LayerChoice) -> Iterator[Fact]:
    candidates, where = choice.candidates, "/layer/candidates"
    number = len(candidates)
    yield Fact(name="layer.candidates", value=number, text=str(number), source=where)
    for role, name in (("layer", choice.chosen), ("layer.runner_up", choice.runner_up)):
        score = _score(choice.candidate(name))
        if score is not None:
            fact = f"{role}.score"
            yield Fact(name=fact, value=score, text=decimal(score), source=where)
    if choice.noise_mean is not None and choice.noise_sd is not None:
        noise = spread(choice.noise_mean, choice.noise_sd)
        source = "/layer/noise_mean"
        yield Fact(name="layer.noise", value=choice.noise_mean, text=noise, source=source)
    if choice.shared:
        text, source = phrase("layer-tested-on"), "/layer/shared"
        yield Fact(name="layer.tested_on", value=True, text=text, source=source)
    failing = layer_failings(choice.candidate(choice.chosen))
    if failing:
        yield Fact(name="layer.failing", value=list(failing), text=listed(failing), source=where)


def _score(candidate: LayerCandidate | None) -> float | None:
    """Return the removal score, None where removal changes too little to tell."""
    check = candidate.check("removal") if candidate else None
    return check.value if check else None


def layer_failings(candidate: LayerCandidate | None) -> list[str]:
    """Return what each check that the layer fails says of it."""
    checks = candidate.checks if candidate else ()
    return [phrase(f"layer-fails.{check.key}") for check in checks if check.outcome == "fails"]
