"""The order of the steps from a model and a picture to a report, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from reportgen import provenance
from reportgen.attribution import METHODS, Explained, Method
from reportgen.classifier.classifier import Classifier, classifier_from
from reportgen.classifier.device import describe
from reportgen.classifier.metadata import Hints
from reportgen.classifier.opened import Opened
from reportgen.classifier.targets import Target
from reportgen.config import ALL, PROFILES, STANDARD_METRICS, Config, names_asked
from reportgen.errors import NotApplicable, UsageError, failure_reason, unknown_name
from reportgen.facts import CONSTANT_MAP, facts_of
from reportgen.findings import briefed, findings_of
from reportgen.image import Picture
from reportgen.layer_records import LayerChoice
from reportgen.metrics import METRICS, Context, Shared
from reportgen.narrative.narration import narrating
from reportgen.narrative.templates import sections_of
from reportgen.narrative.verdict import verdict_of
from reportgen.phrases import speaking, speech_of, templates_digest
from reportgen.preflight import Asked, Forecast, fitted, forecast
from reportgen.records import (
    Attribution,
    Card,
    Cost,
    Measurement,
    Provenance,
    Report,
    Run,
    Skipped,
)
from reportgen.subject import Subject, image_record, make_subject, pictures, targets_for

Arrays = Mapping[str, NDArray[np.generic]]
Started = Callable[[str], None]
Foreseen = Callable[[Forecast], None]


def _ignore(_: object) -> None:
    """Hear of a stage, and do nothing."""


@dataclass
class _Gathered:
    """What has been found so far; ``shared_layer`` where another report has chosen the layer."""

    attributions: list[Attribution]
    measurements: list[Measurement]
    skipped: list[Skipped]
    cards: list[Card]
    maps: dict[str, Tensor]
    arrays: dict[str, NDArray[np.generic]]
    shared_layer: bool


def make_report(
    opened: Opened,
    given: Hints,
    picture: Picture,
    config: Config,
    started: Started = _ignore,
    foreseen: Foreseen | None = None,
) -> tuple[Report, Arrays]:
    """Return the report on one model and one picture, and the arrays behind it.

    ``given`` is what the user said about the model. Otherwise as ``report_on``; raises ModelError
    for a model that cannot be used.
    """
    with narrating(config) as narrate:
        with made_ready(opened, given, config) as classifier:
            report, arrays = report_on(classifier, picture, config, started, foreseen)
        return narrate(report, started), arrays


def make_reports(
    opened: Opened,
    given: Hints,
    picture: Picture,
    config: Config,
    started: Started = _ignore,
    foreseen: Foreseen | None = None,
) -> Iterator[tuple[Report, Arrays]]:
    """Yield a report, and the arrays behind it, on each target that ``config`` asks for.

    The model is made ready once, and left as it was found when the last report is taken. Otherwise
    as ``make_report``; ``foreseen`` hears of the cost of all reports, before the first.
    """
    with narrating(config) as narrate, ExitStack() as stack:
        classifier = stack.enter_context(made_ready(opened, given, config))
        targets = targets_for(classifier, picture, config)
        tell = foreseen and _telling(foreseen, len(targets))
        for left, target in zip(reversed(range(len(targets))), targets, strict=True):
            report, arrays = report_on(classifier, picture, config, started, tell, target)
            if not left:
                stack.close()  # before a language model wants the memory
            yield narrate(report, started), arrays
            tell = None


def _telling(foreseen: Foreseen, targets: int) -> Foreseen:
    return lambda one: foreseen(replace(one, targets=targets))


def foresee(opened: Opened, given: Hints, picture: Picture, config: Config) -> Forecast:
    """Return what ``make_report`` will cost, by a few passes of the model; raises the same."""
    with narrating(config), made_ready(opened, given, config) as classifier:
        targets = targets_for(classifier, picture, config)
        one = _foreseen(make_subject(classifier, picture, config, targets[0]))
        return replace(one, targets=len(targets))


def choose_layer(opened: Opened, given: Hints, picture: Picture, config: Config) -> LayerChoice:
    """Return how the layer of class activation maps is chosen for a picture; raises the same."""
    with made_ready(opened, given, config) as classifier:
        target = targets_for(classifier, picture, config)[0]
        subject = make_subject(classifier, picture, config, target)
        index = subject.prediction.target.index
        return subject.classifier.layer_search(subject.pixels, index, config.layer).choice


@contextmanager
def made_ready(opened: Opened, given: Hints, config: Config) -> Iterator[Classifier]:
    """Make a model ready for reports, its batches no larger than memory, and leave it as found.

    Raises ModelError for a model that cannot be used, UsageError for names that do not exist.
    """
    _chosen(config)  # a mistyped name is refused before the model is made ready
    speech_of(config.language, config.templates)
    with classifier_from(opened, given, config) as classifier:
        yield fitted(classifier, config)


def report_on(
    classifier: Classifier,
    picture: Picture,
    config: Config,
    started: Started = _ignore,
    foreseen: Foreseen | None = None,
    target: Target | None = None,
) -> tuple[Report, Arrays]:
    """Return the report on one picture by a model that is ready, and the arrays behind it.

    ``started`` hears the name of each stage; ``foreseen``, where there is one, what all this will
    cost, before it starts; ``target`` is what to explain, else what ``config`` asks for. Raises
    UsageError for names that do not exist and for several targets, and ImageError for a picture
    that cannot be used. A method or metric that fails is in the report as skipped.
    """
    methods, metrics = _chosen(config)
    counter = classifier.evaluator.counter
    ledger = provenance.Ledger(started, lambda: (counter.forward, counter.backward))
    shared = classifier.layer_choice(config.layer) is not None
    gathered = _Gathered([], [], [], [], {}, {}, shared)
    with ledger.stage("prediction"):
        subject = make_subject(classifier, picture, config, target)
    if foreseen is not None:
        with ledger.stage("pre-flight"):
            foreseen(_foreseen(subject))
    for name in methods:
        with ledger.stage(name):
            _explain(subject, METHODS[name], gathered)
    context = _context(subject, gathered)
    for name in metrics:
        with ledger.stage(name):
            _measure(context, name, gathered)
    report = _report(subject, gathered, ledger)
    with speaking(config.language, config.templates):
        told = _told(report)
    return told, {**gathered.arrays, **pictures(subject)}


def _chosen(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the methods and of the metrics that are asked for."""
    return _known("method", config.methods, METHODS), _metrics(config)


def _known(kind: str, text: str, table: Mapping[str, object]) -> tuple[str, ...]:
    """Return the chosen names in the table's order."""
    names = names_asked(text, table)
    for name in names:
        if name not in table:
            raise unknown_name(kind, name, table)
    return tuple(name for name in table if name in names)


def _metrics(config: Config) -> tuple[str, ...]:
    names = _known("metric", config.metrics, METRICS)
    # Who has no mask and never asked for it by name need not read that it is missing.
    asked = config.metrics not in (ALL, *(profile.get("metrics") for profile in PROFILES.values()))
    asked = asked and config.metrics != STANDARD_METRICS
    return names if config.mask or asked else tuple(n for n in names if n != "localisation")


def _foreseen(subject: Subject) -> Forecast:
    methods, metrics = _chosen(subject.config)
    asked = Asked(
        methods=methods,
        metrics=metrics,
        pixels=subject.pixels,
        target=subject.prediction.target.index,
        segments=int(subject.segments.max()) + 1,
        layer=subject.layer,
        mask=subject.mask is not None,
    )
    return forecast(subject.classifier, subject.config, asked)


def _explain(subject: Subject, method: Method, gathered: _Gathered) -> None:
    name, counter = method.card.key, subject.classifier.evaluator.counter
    before = (counter.forward, counter.backward)
    try:
        explained = method.explain(subject.request(subject.pixels[None], subject.config))
        found = _checked(explained.maps, subject.pixels)
    except UsageError:
        raise
    except Exception as error:  # one failing method never costs the user the others
        gathered.skipped.append(Skipped(step=name, reason=failure_reason(error)))
        return
    gathered.maps[name] = found
    gathered.arrays[f"map.{name}"] = found.cpu().numpy()
    gathered.arrays.update({f"{key}.{name}": array for key, array in explained.arrays.items()})
    spent = Cost(forward=counter.forward - before[0], backward=counter.backward - before[1])
    gathered.measurements.extend(c.model_copy(update={"cost": spent}) for c in explained.checks)
    gathered.attributions.append(_attribution(method, explained, found))


def _checked(maps: Tensor, pixels: Tensor) -> Tensor:
    if maps.shape[1:] != pixels.shape[-2:]:
        raise NotApplicable(f"the map has the shape {tuple(maps.shape[1:])}, not the picture's")
    if not bool(maps.isfinite().all()):
        raise NotApplicable("the map holds NaN or infinite values")
    return maps[0].float()


def _attribution(method: Method, explained: Explained, found: Tensor) -> Attribution:
    name = method.card.key
    constant = bool(found.amax() == found.amin())
    return Attribution(
        method=name,
        card=method.card,
        array=f"map.{name}",
        signed=explained.signed,
        resolution=explained.resolution,
        settings=explained.settings,
        arrays={key: f"{key}.{name}" for key in explained.arrays},
        notes=(*explained.notes, CONSTANT_MAP) if constant else explained.notes,
    )


def _context(subject: Subject, gathered: _Gathered) -> Context:
    def explain(method: str, pixels: Tensor, config: Config) -> Tensor:
        return METHODS[method].explain(subject.request(pixels, config)).maps

    return Context(
        classifier=subject.classifier,
        pixels=subject.pixels,
        prediction=subject.prediction,
        maps=gathered.maps,
        config=subject.config,
        explain=explain,
        cards={attribution.method: attribution.card for attribution in gathered.attributions},
        segments=torch.from_numpy(subject.segments).to(subject.pixels.device),
        mask=subject.mask,
        shared=Shared(subject.classifier.evaluator.counter),
    )


def _measure(context: Context, name: str, gathered: _Gathered) -> None:
    try:
        with context.shared.costing() as cost:
            measured = METRICS[name].measure(context)
    except Exception as error:  # one failing metric never costs the user the others
        gathered.skipped.append(Skipped(step=name, reason=failure_reason(error)))
        return
    gathered.cards.append(METRICS[name].card)
    costed = (m.model_copy(update={"cost": cost()}) for m in measured.measurements)
    gathered.measurements.extend(costed)
    gathered.arrays.update(measured.arrays)
    gathered.skipped.extend(measured.skipped)


def _layer(subject: Subject, shared: bool) -> LayerChoice | None:
    found = subject.classifier.layer_choice(subject.config.layer)
    return found and found.model_copy(update={"shared": shared})


def _report(subject: Subject, gathered: _Gathered, ledger: provenance.Ledger) -> Report:
    return Report(
        model=subject.classifier.record,
        image=image_record(subject),
        prediction=subject.prediction,
        layer=_layer(subject, gathered.shared_layer),
        attributions=tuple(gathered.attributions),
        measurements=tuple(gathered.measurements),
        skipped=tuple(gathered.skipped),
        metrics=tuple(gathered.cards),
        facts=(),
        findings=(),
        sections=(),
        language=subject.config.language,
        provenance=_provenance(subject, ledger),
        run=Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds={**ledger.seconds, "total": sum(ledger.seconds.values())},
        ),
    )


def _told(report: Report) -> Report:
    """Return the report with its facts, then findings, then the text that rests on both."""
    report = report.model_copy(update={"facts": facts_of(report)})
    report = report.model_copy(update={"findings": findings_of(report)})
    report = report.model_copy(update={"facts": facts_of(report)})
    report = report.model_copy(update={"findings": briefed(report)})
    return report.model_copy(
        update={"sections": sections_of(report), "verdict": verdict_of(report)}
    )


def _provenance(subject: Subject, ledger: provenance.Ledger) -> Provenance:
    evaluator = subject.classifier.evaluator
    return Provenance(
        reportgen=provenance.own_version(),
        python=provenance.python_version(),
        platform=provenance.machine(),
        packages=provenance.package_versions(),
        device=describe(evaluator.device),
        precision=evaluator.precision,
        precision_check=subject.precision,
        folded=evaluator.copies.folded is not None,
        batch_size=evaluator.batch_size,
        threads=torch.get_num_threads(),
        determinism="seeded; the library's own choice of kernels",
        seed=subject.config.seed,
        config=_named(subject.config),
        templates=templates_digest(subject.config.templates),
        passes=tuple(ledger.passes),
    )


def _named(config: Config) -> dict[str, JsonValue]:
    """Return all options; of a file only the name, so that a report names no folder."""
    values: dict[str, JsonValue] = config.model_dump(mode="json")
    for option in ("labels", "mask", "templates"):
        given = str(values[option])
        if given and Path(given).exists():
            values[option] = Path(given).name
    folder = Path(config.narrator.removeprefix("llm:")).expanduser()
    if config.narrator.startswith("llm:") and folder.is_dir():
        values["narrator"] = f"llm:{folder.resolve().name}"
    return values
