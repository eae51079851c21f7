"""Whether a map notices that the model was destroyed: all weights at once, or stage by stage.

Papers: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (arXiv 1810.03292); Hedström
et al., Sanity Checks Revisited, 2023 (arXiv 2401.06465).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen.facts import FAILS_FROM
from reportgen.metrics.base import HIGHER, LOWER, Context, Measured, Metric, Plan
from reportgen.metrics.destroyed import (
    DRAWING,
    NAME,
    NEEDS,
    SEEDING,
    Destroyed,
    destroyed_by,
    destroyed_maps,
    destroyed_work,
    measured,
    redrawn_work,
    weight_stages,
)
from reportgen.metrics.repeats import each_method, own_map
from reportgen.metrics.similarity import (
    RESEMBLANCES,
    SPEARMAN,
    SSIM,
    STRENGTH,
    Compared,
    Traits,
    compare,
    is_flat,
    own_traits,
    standing,
)
from reportgen.metrics.yardstick import null_maps, placed
from reportgen.records import Card, Quantity
from reportgen.work import Work

Values = NDArray[np.float64]

BINS = 100
SPEARMAN_QUANTITY = Quantity(
    key="randomised_spearman",
    title="Similarity under re-drawn weights",
    meaning="Spearman's rank correlation of the signed maps before and after.",
    direction=LOWER,
    range=(-1, 1),
)
STRENGTH_QUANTITY = Quantity(
    key="randomised_spearman_abs",
    title="Similarity of strength under re-drawn weights",
    meaning="Spearman's rank correlation of the maps' absolute values before and after.",
    direction=LOWER,
    range=(-1, 1),
)
SSIM_QUANTITY = Quantity(
    key="randomised_ssim",
    title="Structural similarity under re-drawn weights",
    meaning="SSIM before and after, of maps each scaled to [0, 1], in windows of 7 x 7 pixels. "
    "High for any two maps that are zero nearly everywhere.",
    direction=LOWER,
    range=(-1, 1),
)
RANDOMISATION = Card(
    key="randomisation",
    title="Randomisation of the model",
    category="sanity check",
    definition="How similar the method's map is to its map of the same picture and class after "
    f"all of the model's weights were drawn anew. {DRAWING} The map fails where the signed "
    f"correlation is {FAILS_FROM} or more, or -{FAILS_FROM} or less while that of strength is "
    f"{FAILS_FROM} or more: it looks much the same, or the same turned round, although the model "
    "was destroyed.",
    paper="Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv 1810.03292",
    direction=LOWER,
    range=(-1, 1),
    needs=NEEDS,
    seeding=SEEDING,
    limits="One draw of the weights. The threshold is a convention: it is about three standard "
    "deviations (0.16) of the correlation of two unrelated smooth random maps of 7 x 7 cells; maps "
    "of fewer cells reach it by chance more often. "
    "Passing says that the map depends on the weights, not that it is right. Maps that are "
    "multiplied by the picture keep some of its structure whatever the model is.",
    quantities=(SPEARMAN_QUANTITY, STRENGTH_QUANTITY, SSIM_QUANTITY),
    controls=RESEMBLANCES,
)

TOP_DOWN = Quantity(
    key="cascading_spearman_top_down",
    title="Similarity while weights are re-drawn from the output",
    meaning="Mean signed Spearman correlation over the stages, those nearest the output first.",
    direction=LOWER,
    range=(-1, 1),
)
BOTTOM_UP = Quantity(
    key="cascading_spearman_bottom_up",
    title="Similarity while weights are re-drawn from the input",
    meaning="Mean signed Spearman correlation over the stages, those nearest the input first.",
    direction=LOWER,
    range=(-1, 1),
)
CASCADING = Card(
    key="cascading",
    title="Cascading randomisation",
    category="sanity check",
    definition="How similar the method's map is to its map of the same picture and class while "
    "more and more of the weights are drawn anew, in stages of about as many layers each, in the "
    f"order in which a pass uses them; the mean leaves the unchanged model out. {DRAWING}",
    paper="Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv 1810.03292",
    direction=LOWER,
    range=(-1, 1),
    needs=NEEDS,
    seeding=SEEDING,
    limits="From the output down, the low layers stay intact for long, and with them the edges "
    "that even a faithful map follows: the way up from the input is the stricter one. One draw of "
    "the weights. A stage at which the map is constant has no similarity and is left out.",
    quantities=(TOP_DOWN, BOTTOM_UP),
    controls=RESEMBLANCES,
)

EMPRT_QUANTITY = Quantity(
    key="emprt",
    title="Gain of complexity under re-drawn weights",
    direction=HIGHER,
    range=(-1, None),
)
EMPRT = Card(
    key="emprt",
    title="Efficient randomisation test (eMPRT)",
    category="sanity check",
    definition="(H' - H) / H, where H is the entropy of the map's values in a histogram of "
    f"{BINS} equal bins from the lowest to the highest, and H' that of the map after all of the "
    f"model's weights were drawn anew. {DRAWING}",
    paper="Hedström et al., Sanity Checks Revisited: An Exploration to Repair the Model Parameter "
    "Randomisation Test, 2023, arXiv 2401.06465",
    direction=HIGHER,
    range=(-1, None),
    needs=NEEDS,
    seeding=SEEDING,
    limits="Supposes that a destroyed model's map has more widely spread values; where it is "
    "coarse, or zero nearly everywhere, it need not. Compares no places: two maps with the same "
    "values elsewhere count as equal.",
    quantities=(EMPRT_QUANTITY,),
    controls="the same number with each of the smooth random maps in place of the re-drawn "
    "model's map",
)


def _randomisation(context: Context) -> Measured:
    context.require_maps()
    context.once(destroyed_maps)
    return each_method(context, RANDOMISATION.key, context.maps, _similarities)


def _similarities(context: Context, method: str) -> Measured:
    own, destroyed = context.once(own_traits, method), context.once(destroyed_maps)
    other = Traits(destroyed.map_of(method)[None])
    kinds = (SPEARMAN, STRENGTH, SSIM)
    compared = {kind: compare(kind, own, other, NAME) for kind in kinds}
    passed = verdict(own.flat, compared[SPEARMAN], compared[STRENGTH])
    found = []
    for quantity, kind in zip(RANDOMISATION.quantities, kinds, strict=True):
        detail: dict[str, JsonValue] = {"probability": destroyed.probability}
        if kind == SPEARMAN:
            detail["verdict"] = passed
        bare = measured(context, quantity, method, compared[kind], detail)
        place = standing(context, quantity, bare, kind)
        found.append(bare.model_copy(update={"yardstick": place}))
    return Measured(tuple(found))


def verdict(flat: bool, signed: Compared, strength: Compared) -> str:
    """Return "fails" where a map is much the same after the model was destroyed, or "passes".

    "cannot tell" where it was constant before (``flat``). A map that became constant has noticed. A
    signed map that is turned round has kept its structure; where weak places became the strong
    ones, it has not.
    """
    if flat:
        return "cannot tell"
    if signed.value is None:
        return "passes"
    turned_round = strength.value is not None and strength.value >= FAILS_FROM
    same = signed.value >= FAILS_FROM or (signed.value <= -FAILS_FROM and turned_round)
    return "fails" if same else "passes"


def _cascading(context: Context) -> Measured:
    context.require_maps()
    context.once(cascades)
    return each_method(context, CASCADING.key, context.maps, _cascaded)


def cascades(context: Context) -> Mapping[str, tuple[Destroyed, ...]]:
    """Return, for each quantity, the maps of the model after each stage of the cascade.

    The last stage of both is the model with all its weights drawn anew.
    """
    down, last = context.once(weight_stages), context.once(destroyed_maps)
    return {
        quantity.key: (*(destroyed_by(context, ways[:k]) for k in range(1, len(ways))), last)
        for quantity, ways in ((TOP_DOWN, down), (BOTTOM_UP, down[::-1]))
    }


def _cascaded(context: Context, method: str) -> Measured:
    own, found = context.once(own_traits, method), context.once(cascades)
    array = f"cascading.{method}"
    curves: list[list[float]] = []
    measurements = []
    for quantity in CASCADING.quantities:
        steps = found[quantity.key]
        after = [Traits(step.map_of(method)[None]) for step in steps]
        compared = [compare(SPEARMAN, own, other, NAME) for other in after]
        curves.append([one.value or 0.0 for one in compared])
        bare = measured(
            context,
            quantity,
            method,
            mean_similarity(compared),
            {
                "similarities": [one.value for one in compared],
                "probabilities": [step.probability for step in steps],
                "stages": _titles(context, quantity),
            },
        )
        place = standing(context, quantity, bare, SPEARMAN)
        measurements.append(bare.model_copy(update={"array": array, "yardstick": place}))
    return Measured(tuple(measurements), {array: np.asarray(curves, dtype=np.float32)})


def mean_similarity(compared: Sequence[Compared]) -> Compared:
    """Return the mean of the similarities that there are, and why some are missing."""
    values = [one.value for one in compared if one.value is not None]
    why = next((one.why_not for one in compared if one.value is None), "")
    if not values:
        return Compared(None, why)
    missing = len(compared) - len(values)
    return Compared(
        float(np.mean(values)),
        f"{why} at {missing} of {len(compared)} stages, which are left out" if missing else "",
    )


def _titles(context: Context, quantity: Quantity) -> list[JsonValue]:
    down = [stage.title for stage in context.once(weight_stages)]
    return [*down] if quantity is TOP_DOWN else [*reversed(down)]


def _emprt(context: Context) -> Measured:
    context.require_maps()
    context.once(destroyed_maps)
    return each_method(context, EMPRT.key, context.maps, _gain)


def _gain(context: Context, method: str) -> Measured:
    own = histogram_entropy(context.once(own_map, method))
    other = histogram_entropy(context.once(destroyed_maps).map_of(method))
    # A constant map lies in one bin.
    compared = Compared(other / own - 1) if own else Compared(None, "the map is constant")
    detail: dict[str, JsonValue] = {"entropy": own, "entropy re-drawn": other}
    bare = measured(context, EMPRT_QUANTITY, method, compared, detail)
    nulls = context.once(_null_entropies)
    place = placed(EMPRT_QUANTITY, bare.value, nulls / own - 1) if own else None
    settings = {**bare.settings, "bins": BINS}
    return Measured((bare.model_copy(update={"settings": settings, "yardstick": place}),))


def _null_entropies(context: Context) -> Values:
    return np.asarray([histogram_entropy(values) for values in context.once(null_maps)])


def histogram_entropy(values: Tensor) -> float:
    """Return the entropy, in nats, of a map (H, W) in 100 equal bins; 0 for a constant map."""
    # Imported late: scipy.stats is slow to import, and many reports need none of it.
    from scipy.stats import entropy

    if is_flat(values):
        return 0.0
    counts, _ = np.histogram(values.detach().cpu().double().numpy(), bins=BINS)
    return float(entropy(counts))


def _cascading_work(plan: Plan) -> Mapping[str, Work]:
    """Return the work of a model with at least ``sanity_stages`` layers.

    One with fewer has as many stages as layers.
    """
    if not plan.methods:
        return {}
    ways = 2
    changed = ways * (plan.config.sanity_stages - 1)
    return {**destroyed_work(plan), "maps of the stages": redrawn_work(plan) * changed}


RANDOMISATION_METRIC = Metric(RANDOMISATION, _randomisation, destroyed_work)
CASCADING_METRIC = Metric(CASCADING, _cascading, _cascading_work)
EMPRT_METRIC = Metric(EMPRT, _emprt, destroyed_work)
