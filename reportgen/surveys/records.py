"""What a survey is made of: frozen records that check themselves.

``Survey`` is the ``report.json`` of many pictures and models, in a version of its own. The report
of each picture lies beside it, in the folder that its entry names; every measurement of all of them
is a row of ``table.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import JsonValue

from reportgen.records import Fact, ModelRecord, Provenance, Quantity, Record, Run

SURVEY_VERSION: Literal["survey-1.1"] = "survey-1.1"

Doubtful = Literal["same in all models", "same in all pictures", "outside its range", "derived"]


class Criteria(Record):
    """The numbers that the rules of a survey rest on.

    ``fewest`` is the number of differences from which on they are put to a test: with fewer, the
    smallest two-sided p of the signed-rank test is above 0.05. ``better`` is the largest p at which
    a map counts as better than the null maps; ``compared_most`` is how many comparisons a table
    shows.
    """

    fewest: int = 6
    resamples: int = 10_000
    confidence: float = 0.95
    significant: float = 0.05
    better: float = 0.05
    named_share: float = 1 / 3
    named_most: int = 3
    printed_most: int = 20
    compared_most: int = 40


class SurveyedModel(Record):
    """A model, under the ``key`` that names it in this survey."""

    key: str
    record: ModelRecord


class Entry(Record):
    """One picture under one model.

    ``folder`` is where its report lies, relative to the survey's; "" where there is none, and
    ``reason`` then says why. ``label`` and ``probability`` in [0, 1] are of the class explained.
    ``problems`` and ``cautions`` count the findings, ``skipped`` the steps that were not made. Of
    ``judged`` maps, ``beating`` do better than smooth random ones; None in a survey of the
    version 1.0. ``verdict`` is the line at the top of the report, and ``facts`` are those that it
    rests on, whose sources lie in that report.
    """

    number: int
    image: str
    model: str
    folder: str = ""
    reason: str = ""
    label: str = ""
    probability: float | None = None
    problems: int = 0
    cautions: int = 0
    skipped: int = 0
    verdict: str = ""
    facts: tuple[Fact, ...] = ()
    judged: int | None = None
    beating: int | None = None


class Placement(Record):
    """Where the values of ``pictures`` stand among those of null maps; see ``Yardstick``.

    ``percentile`` and ``z`` are medians. Of ``tested`` pictures, the map is better than the null
    maps on ``better``.
    """

    pictures: int
    percentile: float
    z: float | None
    tested: int
    better: int


class Summary(Record):
    """One number of one subject over the pictures of one model.

    ``pictures`` have a value, ``without`` were measured and have none. Quartiles are interpolated
    linearly. Where the settings differ between pictures nothing is added up, and ``note`` says so.
    """

    model: str
    metric: str
    subject: str
    pictures: int
    without: int = 0
    median: float | None = None
    quartiles: tuple[float, float] | None = None
    extremes: tuple[float, float] | None = None
    placement: Placement | None = None
    settings: Mapping[str, JsonValue] = {}
    note: str = ""


class Comparison(Record):
    """The differences first - second of one number, on the ``pictures`` that have both.

    Between ``methods``: first and second are methods, ``within`` is the model. Between ``models``:
    first and second are models, ``within`` is the method. ``better`` counts the pictures on which
    first is the better one. ``interval`` is of the mean; ``p`` is of Wilcoxon's signed-rank test,
    ``p_adjusted`` the same after Holm's correction for all comparisons of its kind and ``within``
    (between models: of its pair of models).
    """

    between: Literal["methods", "models"]
    metric: str
    first: str
    second: str
    within: str
    pictures: int
    mean: float | None = None
    median: float | None = None
    better: int | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    note: str = ""


class Same(Record):
    """On how many of the ``pictures`` of both models they give the explained class one label."""

    first: str
    second: str
    pictures: int
    same: int


class Named(Record):
    """A picture that a rule names; ``value`` is what the rule ranks by, ``rank`` starts at 1."""

    rule: str
    model: str
    number: int
    rank: int
    value: float


class Doubt(Record):
    """A number that cannot tell what it seems to tell.

    ``other`` is the metric from which it is derived (``relation`` says how); ``count`` is the
    number of values that are doubtful.
    """

    kind: Doubtful
    metric: str
    subject: str
    models: tuple[str, ...]
    count: int
    other: str = ""
    relation: str = ""


class Compared(Record):
    """How many comparisons ``between`` methods or models were made, tested and clear.

    ``clear`` are those whose corrected p is at most ``Criteria.significant``; ``families`` are the
    sizes of the groups that were corrected together. Of those without a test, ``few`` had too few
    pictures and ``equal`` no difference. ``out_of_reach`` could not have been clear whatever the
    numbers: they have ``pictures`` at most, and where ``together`` of them are corrected together,
    the largest such group, that takes ``needed``.
    """

    between: Literal["methods", "models"]
    made: int
    tested: int
    clear: int
    few: int
    equal: int
    families: tuple[int, ...]
    out_of_reach: int = 0
    pictures: int = 0
    together: int = 0
    needed: int = 0


class Unlike(Record):
    """How many ``numbers`` were not compared between models, and why."""

    numbers: int
    note: str


class Totals(Record):
    """What the sentences of a survey count.

    Of ``pictures``, ``explained`` have a report and ``lost`` have none; of ``asked`` reports (one
    for each picture and model), ``reports`` were made and ``further`` are missing of pictures that
    have another. ``problems`` and ``cautions`` stand in all reports, ``troubled`` reports have a
    problem. Of ``judged`` maps, ``beating`` do better than smooth random ones, in ``evident``
    reports; None where the entries do not say so. ``refused`` numbers were not added up;
    ``forward`` and ``backward`` are images through the network.
    """

    pictures: int
    explained: int
    lost: int
    asked: int
    reports: int
    further: int
    models: int
    methods: int
    problems: int
    cautions: int
    troubled: int
    judged: int | None
    beating: int | None
    evident: int | None
    doubts: int
    refused: int
    forward: int
    backward: int
    compared: tuple[Compared, ...]
    unlike: tuple[Unlike, ...]


class Survey(Record):
    """Many pictures under one or several models.

    ``titles`` are those of the methods, by key; ``passed_over`` counts the files in a folder of
    pictures that were taken for none. ``totals`` count what the sentences say; None in a survey of
    the version 1.0.
    """

    schema_version: Literal["survey-1.0", "survey-1.1"] = SURVEY_VERSION
    models: tuple[SurveyedModel, ...]
    entries: tuple[Entry, ...]
    passed_over: int
    titles: Mapping[str, str]
    quantities: tuple[Quantity, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    same: tuple[Same, ...]
    named: tuple[Named, ...]
    doubts: tuple[Doubt, ...]
    totals: Totals | None = None
    criteria: Criteria
    provenance: Provenance
    run: Run

    @property
    def reported(self) -> tuple[Entry, ...]:
        """The entries that have a report."""
        return tuple(entry for entry in self.entries if entry.folder)

    @property
    def failed(self) -> tuple[Entry, ...]:
        """The entries that have none."""
        return tuple(entry for entry in self.entries if not entry.folder)

    @property
    def pictures(self) -> int:
        """The number of pictures that were given."""
        return len({entry.number for entry in self.entries})

    def entry(self, number: int, model: str) -> Entry | None:
        """Return the entry of a picture under a model, or None."""
        for entry in self.entries:
            if (entry.number, entry.model) == (number, model):
                return entry
        return None


def survey_schema() -> dict[str, Any]:
    """Return the JSON schema of a survey's ``report.json``."""
    return Survey.model_json_schema()
