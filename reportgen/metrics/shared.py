"""Computations that several metrics need, made once, and what each metric has cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reportgen.classifier.evaluator import Counter
from reportgen.records import Cost

T = TypeVar("T")


@dataclass
class _Made:
    """A result, the passes made for it alone, and all the shared results that went into it."""

    result: Any
    passes: tuple[int, int]
    parts: set[object]


@dataclass
class _Frame:
    """What is being computed: the passes of shared results inside it, and which those are."""

    inner: tuple[int, int] = (0, 0)
    parts: set[object] = field(default_factory=set)


class Shared:
    """Keeps the results of functions by function and arguments, and counts their passes.

    ``counter`` is that of the evaluator through which all passes go.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._made: dict[object, _Made] = {}
        self._frames: list[_Frame] = []

    def once(self, make: Callable[..., T], context: object, *arguments: Any) -> T:
        """Return ``make(context, *arguments)``, made at the first call only.

        ``arguments`` are hashable; ``context`` is the same in all calls.
        """
        key = (make, arguments)
        if key not in self._made:
            with self._framed() as (frame, spent):
                result = make(context, *arguments)
            total = spent()
            self._made[key] = _Made(result, _minus(total, frame.inner), {key, *frame.parts})
            if self._frames:
                self._frames[-1].inner = _plus(self._frames[-1].inner, total)
        if self._frames:
            self._frames[-1].parts |= self._made[key].parts
        result_: T = self._made[key].result
        return result_

    @contextmanager
    def costing(self) -> Iterator[Callable[[], Cost]]:
        """Yield what tells, afterwards, the cost of all that was done inside.

        Shared results count whole for every metric that reads them, whoever was the first.
        """
        found: list[Cost] = []
        with self._framed() as (frame, spent):
            yield lambda: found[0]
        own = _minus(spent(), frame.inner)
        shared = (0, 0)
        for key in frame.parts:
            shared = _plus(shared, self._made[key].passes)
        found.append(
            Cost(
                forward=own[0] + shared[0],
                backward=own[1] + shared[1],
                shared_forward=shared[0],
                shared_backward=shared[1],
            )
        )

    @contextmanager
    def _framed(self) -> Iterator[tuple[_Frame, Callable[[], tuple[int, int]]]]:
        frame = _Frame()
        before = (self._counter.forward, self._counter.backward)
        self._frames.append(frame)
        try:
            yield frame, lambda: _minus((self._counter.forward, self._counter.backward), before)
        finally:
            self._frames.pop()


def _plus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def _minus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] - b[0], a[1] - b[1]
