"""What a report is made of: frozen records that check themselves, and nothing that draws or writes.

``Report`` is the product. Its JSON form (``report.json``) is versioned and complete: every reader
(HTML, PDF, text) shows what stands here and computes nothing. Large arrays (maps, curves, pictures)
are named here and lie beside it, in ``maps.npz``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import JsonValue

from reportgen.frozen import Record as Record
from reportgen.layer_records import LayerChoice
from reportgen.subject_records import Box as Box
from reportgen.subject_records import ImageRecord as ImageRecord
from reportgen.subject_records import Mask as Mask
from reportgen.subject_records import ModelRecord as ModelRecord
from reportgen.subject_records import OwnNormalisation as OwnNormalisation
from reportgen.subject_records import Preprocessing as Preprocessing
from reportgen.subject_records import Source as Source
from reportgen.subject_records import Sourced as Sourced

# 1.0 has no quantities, yardsticks and costs; what it lacks has a default.
Version = Literal["1.0", "1.1", "1.2", "1.3", "1.4"]
SCHEMA_VERSION: Version = "1.4"
READABLE_VERSIONS: tuple[str, ...] = get_args(Version)

Direction = Literal["higher is better", "lower is better", "descriptive"]
Form = Literal["decimal", "percent", "count"]
Granularity = Literal["pixels", "patches", "segments", "feature map"]
Severity = Literal["problem", "caution", "note", "pass"]


class Quantity(Record):
    """One of the numbers that a metric gives: its key, what it is called, and how it is read.

    ``key`` is the ``metric`` of its measurements. An open end of ``range`` is None; ``form`` is how
    the number is written; ``meaning`` says what it is where the card's definition does not.
    """

    key: str
    title: str
    meaning: str = ""
    direction: Direction = "descriptive"
    range: tuple[float | None, float | None] = (None, None)
    form: Form = "decimal"


class Card(Record):
    """What a method or a metric is, for the reader of a report and for ``reportgen methods``.

    ``direction`` and ``range`` speak of the metric's value (for a method: of the map's values);
    an open end of ``range`` is None. ``quantities`` are the numbers that a metric gives, and
    ``controls`` says which control maps they are placed among, or why there are none.
    ``granularity`` is how fine a method's maps are; a ``class_agnostic`` method gives nearly the
    same map for every class.
    """

    key: str
    title: str
    category: str
    definition: str
    paper: str
    direction: Direction = "descriptive"
    range: tuple[float | None, float | None] = (None, None)
    needs: str
    seeding: str
    self_check: str = ""
    limits: str = ""
    quantities: tuple[Quantity, ...] = ()
    controls: str = ""
    granularity: Granularity | None = None
    class_agnostic: bool = False


class ClassScore(Record):
    """One class: its index, label, probability in [0, 1], and score before the probability."""

    index: int
    label: str
    probability: float
    score: float


class Contrast(Record):
    """Two classes, where what is explained is why the ``first`` and not the ``second``."""

    first: ClassScore
    second: ClassScore


class Prediction(Record):
    """What the model said: the top classes in descending order, and the class explained.

    In a ``contrast`` the target stands for "the first rather than the second": its score is the
    difference of their scores, its probability p1 / (p1 + p2), its index the number of classes.
    Where a picture may have several labels, those of ``threshold`` or more hold, and all of them
    are in ``top``; the threshold is None where one class wins.
    """

    top: tuple[ClassScore, ...]
    target: ClassScore
    target_source: Literal["top class", "option", "threshold"]
    contrast: Contrast | None = None
    threshold: float | None = None

    @property
    def holding(self) -> tuple[ClassScore, ...]:
        """The labels that hold; none where one class wins."""
        least = self.threshold
        return () if least is None else tuple(e for e in self.top if e.probability >= least)


class Attribution(Record):
    """One method's map of one picture; ``array`` names the (height, width) float32 map.

    ``resolution`` is the size at which the method itself works (a 7x7 feature map, the number of
    segments, the pixels), as text; ``arrays`` names further arrays, such as the segments.
    """

    method: str
    card: Card
    array: str
    signed: bool
    resolution: str
    settings: Mapping[str, JsonValue]
    arrays: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()


class Yardstick(Record):
    """Where a value stands among the same values of ``maps`` control maps that know no model.

    ``mean`` and ``sd`` (of the sample) are theirs, ``z`` is (value - mean) / sd, None where they
    are all equal. ``percentile`` in [0, 1] is the share of them that the value is better than (of a
    descriptive value: that it is above), equal ones counting half. ``p`` in (0, 1] is how likely a
    control map is to do as well: (1 + those at least as good) / (1 + ``maps``); None for a
    descriptive value.
    """

    controls: str
    maps: int
    mean: float
    sd: float
    z: float | None
    percentile: float
    p: float | None


class Cost(Record):
    """The images sent through the network for a metric, all its subjects together.

    ``shared_forward`` and ``shared_backward`` are those of them that other metrics read as well.
    """

    forward: int
    backward: int
    shared_forward: int = 0
    shared_backward: int = 0


class Measurement(Record):
    """One measured number: ``metric`` of ``subject`` (a method, a control map, "prediction").

    ``value`` is None where the measurement was made and has no number (nothing flipped up to 180
    degrees); ``note`` then says so. ``interval`` is (low, high), its kind named in
    ``interval_kind``. ``array`` names the curve behind the number, if there is one. ``yardstick``
    is its place among control maps; None where a control map has no such number.
    """

    metric: str
    subject: str
    value: float | None
    unit: str = ""
    direction: Direction = "descriptive"
    range: tuple[float | None, float | None] = (None, None)
    interval: tuple[float, float] | None = None
    interval_kind: str = ""
    settings: Mapping[str, JsonValue] = {}
    detail: Mapping[str, JsonValue] = {}
    array: str | None = None
    note: str = ""
    yardstick: Yardstick | None = None
    cost: Cost | None = None


class Skipped(Record):
    """A step that was not made, and why; ``subject`` is the method it was meant for, if one."""

    step: str
    subject: str = ""
    reason: str


class Fact(Record):
    """A named value with the one text form in which every reader shows it.

    ``source`` is a JSON pointer into the report; ``direction`` says in words which way is better,
    and ``interval`` holds the ends of the value's interval, where it was measured.
    """

    name: str
    value: JsonValue
    text: str
    source: str
    direction: str = ""
    interval: tuple[float, float] | None = None


class Sentence(Record):
    """One sentence and the names of the facts it rests on.

    ``pattern`` is the template's own sentence, with ``{fact names}`` where ``text`` has the texts
    of those facts. Where a language model wrote the sentence, ``author`` says so and ``draft`` is
    what it wrote, with the same names; where its sentence was refused, ``refusal`` says why, and
    the template's sentence stands.
    """

    text: str
    facts: tuple[str, ...]
    pattern: str = ""
    author: Literal["template", "model"] = "template"
    draft: str = ""
    refusal: str = ""


class Finding(Record):
    """What a rule concluded: the statement, the facts it rests on, and the threshold applied.

    ``brief`` is a short sentence on all that the rule found, for the first page; only the first
    finding of each rule has it.
    """

    rule: str
    severity: Severity
    subject: str
    statement: str
    facts: tuple[str, ...]
    threshold: str
    brief: Sentence | None = None


class Section(Record):
    """A numbered part of the report, by key, with the sentences written for it."""

    key: str
    title: str
    sentences: tuple[Sentence, ...]


class Narration(Record):
    """The language model that was asked to put the sections into its own words.

    ``narrator`` is what was asked for, ``model`` its name, ``digest`` the SHA-256 of its files (or
    what a server states, or empty); ``address`` is that of a server, and ``remote`` whether it is
    another machine. ``precision`` is the number format of its passes and its device, where they are
    known. ``offered`` sentences were given to it, of which ``written`` stand in the report and
    ``refused`` do not, by ``reasons``; ``failures`` say what went wrong on the way.
    """

    narrator: str
    model: str
    digest: str = ""
    address: str = ""
    remote: bool = False
    precision: str = ""
    seed: int
    temperature: float = 0.0
    offered: int
    written: int
    refused: int
    reasons: Mapping[str, int] = {}
    failures: tuple[str, ...] = ()


class Passes(Record):
    """Images sent through the network, forward and backward, by one stage of the report."""

    stage: str
    forward: int
    backward: int


class PrecisionCheck(Record):
    """Whether passes without gradients could be made in a coarser number format.

    ``rank_correlation`` (Spearman) compares the target's probabilities of ``pictures`` masked
    copies of the picture in both formats; with less than ``least``, or without one, the coarser
    format was not ``used``. The differences are those of the probabilities.
    """

    precision: str
    used: bool
    pictures: int
    least: float
    rank_correlation: float | None
    largest_difference: float | None
    mean_difference: float | None


class Provenance(Record):
    """All that is needed to make the report again.

    ``folded`` says whether passes without gradients went through a copy of the network with batch
    normalisation folded into the convolutions. ``templates`` is the SHA-256 of the user's own text
    templates, empty without any.
    """

    reportgen: str
    python: str
    platform: str
    packages: Mapping[str, str]
    device: str
    precision: str
    precision_check: PrecisionCheck | None = None
    folded: bool = False
    batch_size: int
    threads: int
    determinism: str
    seed: int
    config: Mapping[str, JsonValue]
    templates: str = ""
    passes: tuple[Passes, ...]


class Run(Record):
    """The only part that differs between two runs on the same inputs and machine.

    ``seconds`` are those of each stage, and of all stages together under "total".
    """

    created: str
    seconds: Mapping[str, float]


class Report(Record):
    """The Model Explainability Report of one model and one picture."""

    schema_version: Version = SCHEMA_VERSION
    model: ModelRecord
    image: ImageRecord
    prediction: Prediction
    layer: LayerChoice | None = None
    attributions: tuple[Attribution, ...]
    measurements: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...]
    metrics: tuple[Card, ...]
    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    language: str = "en"
    verdict: Sentence | None = None
    narration: Narration | None = None
    provenance: Provenance
    run: Run

    def attribution(self, method: str) -> Attribution | None:
        """Return the attribution of ``method``, or None where it was skipped."""
        return next((a for a in self.attributions if a.method == method), None)

    def measurement(self, metric: str, subject: str) -> Measurement | None:
        """Return the measurement of ``metric`` for ``subject``, or None where there is none."""
        found = (m for m in self.measurements if (m.metric, m.subject) == (metric, subject))
        return next(found, None)

    def fact(self, name: str) -> Fact | None:
        """Return the fact called ``name``, or None."""
        return next((f for f in self.facts if f.name == name), None)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of ``report.json``."""
    return Report.model_json_schema()
