"""What the chosen metrics will cost together, known before they are measured."""

from __future__ import annotations

from collections.abc import Mapping

from reportgen.metrics.base import Metric, Plan
from reportgen.work import Work


def planned(metrics: Mapping[str, Metric], plan: Plan) -> Mapping[str, Work]:
    """Return the work of each of ``metrics``, in their order.

    A computation that several share counts for the first of them, as ``Context.once`` makes it.
    """
    made: set[str] = set()
    found: dict[str, Work] = {}
    for name, metric in metrics.items():
        parts = metric.work(plan)
        found[name] = sum((parts[part] for part in parts if part not in made), Work())
        made |= parts.keys()
    return found
