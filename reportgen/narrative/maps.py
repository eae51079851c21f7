"""The sections on one method each: is its map evidence, where does it point, how was it made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reportgen.facts import CONSTANT_MAP, DESTROYED, SEEDS, SELF_CHECKS
from reportgen.narrative.story import Choice, Story

# Whether a map is better in deletion and in insertion; None where that curve cannot tell.
_EVIDENCE: Mapping[tuple[object, object], str] = {
    (True, True): "supported",
    (True, False): "supported-in-deletion",
    (False, True): "supported-in-insertion",
    (False, False): "unsupported",
    (True, None): "supported-by-deletion",
    (False, None): "unsupported-by-deletion",
    (None, True): "supported-by-insertion",
    (None, False): "unsupported-by-insertion",
    (None, None): "unjudged",
}


def method_section(story: Story, method: str) -> Iterator[Choice]:
    """Return what is said of the map of one method."""
    yield _evidence(story, method), method
    yield "located", method
    yield "on-mask", method
    yield from _tested(story, method)
    for metric in SELF_CHECKS:
        if story.report.measurement(metric, method):
            yield f"check-{metric}", method
    yield from story.first((f"made-{method}", "made-from-layer", "made"), method)
    yield from _layer(story, method)


def _evidence(story: Story, method: str) -> str:
    attribution = story.report.attribution(method)
    if attribution is not None and CONSTANT_MAP in attribution.notes:
        return "flat"
    if not story.has_curves:
        return "unmeasured"
    found = story.beats(method)
    return _EVIDENCE[found.get("deletion"), found.get("insertion")]


def _layer(story: Story, method: str) -> Iterator[Choice]:
    """Return how the layer was chosen, for the first method that looks at it."""
    looking = [a.method for a in story.report.attributions if "layer" in a.settings]
    choice = story.report.layer
    if choice is None or looking[:1] != [method]:
        return
    if choice.source == "option":
        yield from story.first(("layer-failing", "layer-named"))
    else:
        compared = "layer-compared" if story.value("layer.removal") else "layer-unclear"
        yield from story.first((compared, "layer-last"))
        yield "layer-runner-up", ""
    yield "layer-shared", ""


def _tested(story: Story, method: str) -> Iterator[Choice]:
    """Return what fails under random weights, and how stable the map is under other seeds."""
    if story.value(f"{method}.{DESTROYED}.verdict") == "fails":
        yield "sanity-fails", method
    seeds = story.value(f"{method}.{SEEDS}.verdict")
    if seeds is not None:
        yield f"seeds-{seeds}", method
