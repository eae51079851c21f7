"""From the numbers that were kept to the survey."""

from __future__ import annotations

from reportgen.errors import ImageError
from reportgen.records import Run
from reportgen.surveys.comparison import comparisons, same_classes
from reportgen.surveys.doubts import doubts
from reportgen.surveys.naming import named
from reportgen.surveys.records import Criteria, Survey, SurveyedModel
from reportgen.surveys.summary import summaries
from reportgen.surveys.tally import Tally
from reportgen.surveys.totals import totals_of


def survey_of(tally: Tally, passed_over: int, run: Run) -> Survey:
    """Return the survey of all reports in ``tally``.

    Raises ImageError where there is no report at all.
    """
    provenance = tally.total()
    if provenance is None:
        raise ImageError(_nothing(tally))
    criteria = Criteria()
    made = Survey(
        models=tuple(SurveyedModel(key=key, record=tally.models[key]) for key in tally.models),
        entries=tuple(tally.entries),
        passed_over=passed_over,
        titles=dict(tally.titles),
        quantities=tuple(tally.quantities.values()),
        summaries=summaries(tally, criteria),
        comparisons=comparisons(tally, criteria, provenance.seed),
        same=same_classes(tally),
        named=named(tally, criteria),
        doubts=doubts(tally),
        criteria=criteria,
        provenance=provenance,
        run=run,
    )
    return made.model_copy(update={"totals": totals_of(made)})


def _nothing(tally: Tally) -> str:
    count = len({entry.number for entry in tally.entries})
    return f"None of {count} pictures could be explained; of the first: {tally.entries[0].reason}"
