"""How the layer of class activation maps was chosen: its candidates and their self-tests."""

from __future__ import annotations

from typing import Literal

from reportgen.frozen import Record

Outcome = Literal["passes", "fails", "undecided"]


class LayerCheck(Record):
    """One check of a layer by its key, what came of it, and the number behind it, if any."""

    key: str
    outcome: Outcome
    value: float | None = None


class LayerCandidate(Record):
    """A layer that class activation maps may look at, and its self-test.

    Its activation has ``height`` x ``width`` places of ``channels`` numbers; ``layout`` is the
    order of its axes, and ``prefix`` tokens that belong to no place stand before the others.
    """

    name: str
    height: int
    width: int
    layout: str
    prefix: int
    channels: int
    checks: tuple[LayerCheck, ...]

    @property
    def passes(self) -> bool:
        """Whether no check fails."""
        return all(check.outcome != "fails" for check in self.checks)

    def check(self, key: str) -> LayerCheck | None:
        """Return the check called ``key``, or None where it was not made."""
        return next((check for check in self.checks if check.key == key), None)


class LayerChoice(Record):
    """The layer that class activation maps look at, and the candidates for it, the last first.

    ``chosen`` and ``runner_up`` are names among ``candidates``, empty where there is none; then
    ``reason`` says why. The removal scores of ``noise_maps`` smooth random maps have ``noise_mean``
    and ``noise_sd``, None where no map was tried or removal changes too little to tell. ``shared``
    where all this was measured on an earlier picture or class of the same run, whose pictures share
    one layer.
    """

    source: Literal["option", "detected"]
    chosen: str
    runner_up: str
    candidates: tuple[LayerCandidate, ...]
    reason: str = ""
    noise_maps: int = 0
    noise_mean: float | None = None
    noise_sd: float | None = None
    shared: bool = False

    def candidate(self, name: str) -> LayerCandidate | None:
        """Return the candidate called ``name``, or None."""
        return next((each for each in self.candidates if each.name == name), None)
