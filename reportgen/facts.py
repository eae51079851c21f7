"""Facts: every number of a report, named and put into words once.

This is the only place that turns a number into text. Findings, sentences, tables and the first
page all show these texts, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import fmean

from pydantic import JsonValue

from reportgen.records import Attribution, Fact, Measurement, Report

ANGLE_LIMIT = 180
SMOOTH_NOISE = "smooth-random"


def percent(value: float) -> str:
    """Return a share as a percentage, with a decimal below 10%."""
    digits = 1 if 0 < abs(value) < 0.0995 else 0
    return f"{100 * value:.{digits}f}%"


def probability(value: float) -> str:
    """Return a probability with four decimals; never "1.0000" or "0.0000" for one that is not."""
    if value > 0.99995 and value < 1:
        return ">0.9999"
    if 0 < value < 0.00005:
        return "<0.0001"
    return f"{value:.4f}"


def decimal(value: float) -> str:
    """Return a number with three decimals."""
    return f"{value:.3f}"


def degrees(value: float) -> str:
    """Return an angle with two decimals."""
    return f"{value:.2f} degrees"


def seconds(value: float) -> str:
    """Return a duration in seconds with one decimal."""
    return f"{value:.1f} s"


def count(value: float) -> str:
    """Return a whole number with thousands set apart."""
    return f"{int(value):,}"


def size(height: int, width: int) -> str:
    """Return a size in pixels as width x height."""
    return f"{width} x {height} px"


def place(across: float, down: float) -> str:
    """Return which ninth of the picture a point lies in; both are shares from the upper left."""
    row = ("upper", "middle", "lower")[min(int(down * 3), 2)]
    column = ("left", "centre", "right")[min(int(across * 3), 2)]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def facts_of(report: Report) -> tuple[Fact, ...]:
    """Return all facts of a report, each name once."""
    parts = (
        _model(report),
        _prediction(report),
        _attributions(report),
        _measured(report),
        _derived(report),
    )
    named = {fact.name: fact for part in parts for fact in part}
    return tuple(named.values())


def _fact(name: str, value: JsonValue, text: str, source: str, direction: str = "") -> Fact:
    return Fact(name=name, value=value, text=text, source=source, direction=direction)


def _model(report: Report) -> Iterator[Fact]:
    model, image, run = report.model, report.image, report.provenance
    for name, text in (
        ("name", model.name),
        ("format", model.format),
        ("architecture", model.architecture),
    ):
        yield _fact(f"model.{name}", text, text, f"/model/{name}")
    yield _fact("model.head", model.head.value, str(model.head.value), "/model/head/value")
    yield _fact("model.device", run.device, run.device, "/provenance/device")
    for name, number in (("parameters", model.parameters), ("classes", model.classes)):
        yield _fact(f"model.{name}", number, count(number), f"/model/{name}")
    assumed = assumptions(report)
    yield _fact("model.assumed", list(assumed), _listed(assumed) or "nothing", "/model")
    yield _fact("image.name", image.name, image.name, "/image/name")
    yield _fact(
        "image.size", [image.width, image.height], size(image.height, image.width), "/image"
    )
    height, width = model.preprocessing.crop
    yield _fact(
        "image.input_size", [width, height], size(height, width), "/model/preprocessing/crop"
    )
    for way in ("forward", "backward"):
        total = sum(getattr(passes, way) for passes in run.passes)
        yield _fact(f"passes.{way}", total, count(total), "/provenance/passes")


def assumptions(report: Report) -> tuple[str, ...]:
    """Return what was assumed about the model because nothing stated it, in words."""
    words = {
        "channels": "the number of channels",
        "resize": "the resize",
        "crop": "the input size",
        "interpolation": "the interpolation",
        "mean": "the mean",
        "std": "the standard deviation",
    }
    sources = report.model.preprocessing_sources
    assumed = [text for name, text in words.items() if sources.get(name) == "assumed"]
    if report.model.labels.source == "assumed":
        assumed.append("the labels")
    return tuple(assumed)


def _prediction(report: Report) -> Iterator[Fact]:
    prediction = report.prediction
    target = prediction.target
    source = "/prediction/target"
    yield _fact("prediction.label", target.label, target.label, f"{source}/label")
    yield _fact("prediction.index", target.index, str(target.index), f"{source}/index")
    yield _fact(
        "prediction.probability",
        target.probability,
        probability(target.probability),
        f"{source}/probability",
    )
    yield _fact("prediction.score", target.score, decimal(target.score), f"{source}/score")
    for rank, entry in enumerate(prediction.top, start=1):
        where = f"/prediction/top/{rank - 1}"
        yield _fact(f"prediction.top{rank}.label", entry.label, entry.label, f"{where}/label")
        yield _fact(
            f"prediction.top{rank}.probability",
            entry.probability,
            probability(entry.probability),
            f"{where}/probability",
        )
    if len(prediction.top) > 1:
        yield from _runner_up(report)


def _runner_up(report: Report) -> Iterator[Fact]:
    first, second = report.prediction.top[:2]
    margin = first.probability - second.probability
    yield _fact("prediction.margin", margin, probability(margin), "/prediction/top")
    yield _fact("prediction.runner_up", second.label, second.label, "/prediction/top/1/label")


def _attributions(report: Report) -> Iterator[Fact]:
    for index, attribution in enumerate(report.attributions):
        source = f"/attributions/{index}"
        name = attribution.method
        title = attribution.card.title
        yield _fact(f"{name}.title", title, title, f"{source}/card/title")
        yield _fact(
            f"{name}.resolution",
            attribution.resolution,
            attribution.resolution,
            f"{source}/resolution",
        )
        yield from _settings(attribution, source)


def _settings(attribution: Attribution, source: str) -> Iterator[Fact]:
    for key, value in attribution.settings.items():
        name = key.replace(" ", "_")
        yield _fact(f"{attribution.method}.{name}", value, str(value), f"{source}/settings/{key}")


def _measured(report: Report) -> Iterator[Fact]:
    for index, measurement in enumerate(report.measurements):
        if measurement.metric in NAMED:
            naming = NAMED[measurement.metric]
            yield _fact(
                naming.name(measurement.subject),
                measurement.value,
                naming.text(measurement),
                f"/measurements/{index}/value",
                measurement.direction,
            )


class Naming:
    """How the measurements of one metric are called and put into words."""

    def __init__(self, pattern: str, form: Callable[[float], str], words: str = "{}") -> None:
        self._pattern = pattern
        self._form = form
        self._words = words

    def name(self, subject: str) -> str:
        """Return the name of the fact about ``subject``."""
        return self._pattern.format(subject.replace(" ", "."))

    def text(self, measurement: Measurement) -> str:
        """Return the value in words, with its interval; the note where there is no value."""
        if measurement.value is None:
            return measurement.note
        text = self._words.format(self._form(measurement.value))
        if measurement.interval is None:
            return text
        low, high = (self._form(end) for end in measurement.interval)
        return f"{text} ({low} to {high})"


NAMED: Mapping[str, Naming] = {
    "deletion": Naming("{}.deletion_auc", decimal),
    "insertion": Naming("{}.insertion_auc", decimal),
    "sensitivity": Naming("{}.sensitivity", decimal),
    "completeness_gap": Naming("{}.self_check", percent, "completeness gap {}"),
    "surrogate_r2": Naming("{}.self_check", decimal, "R\N{SUPERSCRIPT TWO} of the surrogate {}"),
    "additivity_gap": Naming("{}.self_check", decimal, "additivity gap {}"),
    "negative_share": Naming("{}.self_check", percent, "{} of places below zero"),
    "iou": Naming("{}.iou", decimal),
    "spearman": Naming("{}.spearman", decimal),
    "relevance_in_top": Naming("{}.area_share", percent),
    "consensus_area": Naming("{}.area", percent),
    "rotation_flip": Naming("rotation.{}", degrees),
    "noise_retention": Naming("noise.{}", percent),
    "noise_flips": Naming("noise.{}.flips", percent),
}


def _derived(report: Report) -> Iterator[Fact]:
    yield from _locations(report)
    yield from _pairs(report)
    yield from _control_ends(report)
    yield from _fidelity(report)
    yield from _rotation(report)
    yield from _noise(report)
    yield from _setting_facts(report)
    yield from _skipped(report)


def _skipped(report: Report) -> Iterator[Fact]:
    if report.skipped:
        steps = [f"{s.step} of {s.subject}" if s.subject else s.step for s in report.skipped]
        yield _fact("report.skipped", list(steps), _listed(steps), "/skipped")
    yield _fact(
        "report.methods", len(report.attributions), str(len(report.attributions)), "/attributions"
    )
    for name, severity in (("problems", "problem"), ("cautions", "caution")):
        number = sum(finding.severity == severity for finding in report.findings)
        yield _fact(f"report.{name}", number, str(number), "/findings")


def _locations(report: Report) -> Iterator[Fact]:
    by_subject = {m.subject: m for m in report.measurements if m.metric == "centre_x"}
    for subject, across in by_subject.items():
        down = report.measurement("centre_y", subject)
        if across.value is not None and down is not None and down.value is not None:
            words = place(across.value, down.value)
            source = f"/measurements/{report.measurements.index(across)}/value"
            yield _fact(f"{subject}.location", words, words, source)


def _pairs(report: Report) -> Iterator[Fact]:
    titles = {a.method: a.card.title for a in report.attributions}
    overlaps = _of(report, "iou")
    if not overlaps:
        return
    for measurement in overlaps:
        first, second = measurement.subject.split("~")
        words = f"{titles[first]} and {titles[second]}"
        yield _fact(f"{measurement.subject}.methods", words, words, "/attributions")
    values = {m.subject: m.value for m in overlaps if m.value is not None}
    mean = fmean(values.values())
    yield _fact("agreement.mean_iou", mean, decimal(mean), "/measurements", "higher is better")
    for name, choose in (("closest", max), ("farthest", min)):
        pair = choose(values, key=lambda subject: values[subject])
        yield _fact(f"agreement.{name}", pair, pair, "/measurements")
    floor = overlaps[0].settings["expected at random"]
    area = overlaps[0].settings["area"]
    assert isinstance(floor, float)
    assert isinstance(area, float)
    source = f"/measurements/{report.measurements.index(overlaps[0])}/settings"
    yield _fact("agreement.iou_floor", floor, decimal(floor), f"{source}/expected at random")
    yield _fact("agreement.area", area, percent(area), f"{source}/area")


def _control_ends(report: Report) -> Iterator[Fact]:
    """The best that any draw of a random control reached: what a map has to beat."""
    for metric, end, best in (("deletion", 0, "lowest"), ("insertion", 1, "highest")):
        for measurement in _of(report, metric):
            if measurement.interval is not None:
                value = measurement.interval[end]
                index = report.measurements.index(measurement)
                name = f"{measurement.subject}.{metric}_{best}"
                yield _fact(name, value, decimal(value), f"/measurements/{index}/interval/{end}")


def _fidelity(report: Report) -> Iterator[Fact]:
    """The probability that deletion takes away in all, and the method that does best."""
    titles = {a.method: a.card.title for a in report.attributions}
    for metric, choose in (("deletion", min), ("insertion", max)):
        values = {m.subject: m.value for m in _of(report, metric) if m.value is not None}
        of_methods = {titles[name]: value for name, value in values.items() if name in titles}
        if of_methods:
            best = choose(of_methods, key=lambda title: of_methods[title])
            yield _fact(f"fidelity.best_{metric}", best, best, "/measurements")
            text = decimal(of_methods[best])
            yield _fact(f"fidelity.best_{metric}_auc", of_methods[best], text, "/measurements")
    yield from _beating(report)
    for measurement in _of(report, "deletion")[:1]:
        index = report.measurements.index(measurement)
        first, last = (measurement.detail[f"{end} probability"] for end in ("first", "last"))
        assert isinstance(first, float)
        assert isinstance(last, float)
        source = f"/measurements/{index}/detail"
        yield _fact("fidelity.change", first - last, decimal(first - last), source)
        yield _fact("fidelity.baseline", last, probability(last), f"{source}/last probability")


def _beating(report: Report) -> Iterator[Fact]:
    """Whether each map is better than every draw of smooth noise: lower, and higher."""
    beating = []
    outcomes = [(a, list(_outcomes(report, a.method))) for a in report.attributions]
    for attribution, found in outcomes:
        for metric, better in found:
            text = "yes" if better else "no"
            name = f"{attribution.method}.beats_noise.{metric}"
            yield _fact(name, better, text, "/measurements")
        if len(found) == 2 and all(better for _, better in found):
            beating.append(attribution.card.title)
    if any(len(found) == 2 for _, found in outcomes):
        yield _fact("report.beating", len(beating), str(len(beating)), "/measurements")
        yield _fact("report.beating_titles", list(beating), _listed(beating), "/measurements")


def _outcomes(report: Report, method: str) -> Iterator[tuple[str, bool]]:
    for metric, sign, end in (("deletion", -1, 0), ("insertion", 1, 1)):
        own = report.measurement(metric, method)
        noise = report.measurement(metric, SMOOTH_NOISE)
        if own and noise and own.value is not None and noise.interval is not None:
            yield metric, sign * own.value > sign * noise.interval[end]


def _rotation(report: Report) -> Iterator[Fact]:
    flips = _of(report, "rotation_flip")
    if not flips:
        return
    step = flips[0].settings["grid"]
    assert isinstance(step, float | int)
    source = f"/measurements/{report.measurements.index(flips[0])}/settings/grid"
    yield _fact("rotation.step", step, degrees(step), source)
    for flip in flips:
        if "new class" in flip.detail:
            source = f"/measurements/{report.measurements.index(flip)}/detail/new class"
            label = str(flip.detail["new class"])
            yield _fact(f"rotation.{flip.subject}.class", label, label, source)
    found = [flip for flip in flips if flip.value is not None]
    first = min(found, key=lambda flip: flip.value or 0, default=None)
    if first is None or first.value is None:
        limit = degrees(ANGLE_LIMIT)
        yield _fact("rotation.first", None, f"no change up to {limit}", "/measurements")
        return
    source = f"/measurements/{report.measurements.index(first)}/value"
    yield _fact("rotation.first", first.value, degrees(first.value), source, first.direction)
    label = str(first.detail["new class"])
    yield _fact("rotation.first_class", label, label, source)


def _noise(report: Report) -> Iterator[Fact]:
    """The first severity of each noise at which at least half of the copies change class."""
    flips: dict[str, list[tuple[int, float]]] = {}
    for measurement in _of(report, "noise_flips"):
        kind, severity = measurement.subject.split()
        flips.setdefault(kind, []).append((int(severity), measurement.value or 0.0))
    for kind, levels in flips.items():
        first = min((level for level, share in levels if share >= 0.5), default=None)
        words = f"severity {first}" if first else "no severity"
        yield _fact(f"noise.{kind}.first", first, words, "/measurements")


def _setting_facts(report: Report) -> Iterator[Fact]:
    for metric in ("sensitivity", "deletion", "insertion", "noise_retention"):
        for measurement in _of(report, metric)[:1]:
            index = report.measurements.index(measurement)
            for key, value in measurement.settings.items():
                name = f"{metric}.{key.replace(' ', '_')}"
                text = decimal(value) if isinstance(value, float) else str(value)
                yield _fact(name, value, text, f"/measurements/{index}/settings/{key}")


def _of(report: Report, metric: str) -> list[Measurement]:
    return [m for m in report.measurements if m.metric == metric]


def _listed(words: Iterable[str]) -> str:
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last
