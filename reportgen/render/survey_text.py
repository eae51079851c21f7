"""The sentences of a survey: each with the facts it rests on, whose numbers stand in its record."""

from __future__ import annotations

from collections.abc import Iterator

from reportgen.facts.formats import decimal, short
from reportgen.phrases import phrase, retold
from reportgen.records import Fact
from reportgen.render.document import DASH, shortened
from reportgen.render.survey_numbers import Numbers
from reportgen.render.survey_told import Told, counting, joined, listing, tell

NAME = 60
BETWEEN = ("methods", "models")


def verdict(numbers: Numbers) -> Told:
    """Return in one line what was explained, in how far maps are evidence, and the problems."""
    clauses = (_reports(numbers), *_evidence(numbers), _problems(numbers))
    return tell("survey.full-stop", {"words": joined(clauses)})


def summary(numbers: Numbers) -> tuple[Told, ...]:
    """Return what was done, what failed, and how many findings there are."""
    return (
        _scope(numbers),
        *_failures(numbers),
        *_passed_over(numbers),
        _findings(numbers),
        *_same(numbers),
        *_doubts(numbers),
    )


def medians(numbers: Numbers) -> tuple[Told, ...]:
    """Return how the tables of medians are read, and what stands in none of them."""
    refused = numbers.at("/totals/refused")
    left = counting("survey.refused", refused)
    return (
        tell("survey.reading", {"better": numbers.at("/criteria/better", short)}),
        *([tell("survey.settings-differ", {"numbers": left})] if numbers.totals.refused else []),
        tell("survey.every-number", {"numbers": counting("survey.reports", _total(numbers))}),
    )


def differences(numbers: Numbers) -> tuple[Told, ...]:
    """Return how many paired comparisons were tested, how, and how many differ."""
    found = [one for between in BETWEEN for one in _comparisons(numbers, between)]
    found += _unlike(numbers)
    values = {
        "kinds": counting("survey.method", numbers.at("/totals/methods")),
        "number": counting("survey.model", numbers.at("/totals/models")),
    }
    return tuple(found) or (tell("survey.no-comparisons", values),)


def doubtful(numbers: Numbers) -> tuple[Told, ...]:
    """Return that nothing is doubtful, where that is so; a table says what is."""
    if numbers.totals.doubts:
        return ()
    return (tell("survey.no-doubts", rests=[numbers.at("/totals/doubts")]),)


def making(numbers: Numbers) -> tuple[Told, ...]:
    """Return the options and the cost."""
    stated = "profile" in numbers.survey.provenance.config
    values = {
        "profile": numbers.at("/provenance/config/profile", str) if stated else Told(DASH),
        "seed": numbers.at("/provenance/seed", str),
        "device": numbers.at("/provenance/device", str),
    }
    passes = {way: numbers.at(f"/totals/{way}") for way in ("forward", "backward")}
    return tell("survey.made-with", values), tell("survey.passes", passes)


def verdict_of(numbers: Numbers, place: int) -> Told:
    """Return the verdict of a report, with its facts; ``place`` is that in ``Survey.entries``."""
    entry, where = numbers.survey.entries[place], f"/entries/{place}/facts"
    told = (
        Fact(name=f"{where[1:]}/{f.name}", value=f.text, text=f.text, source=f"{where}/{n}/text")
        for n, f in enumerate(entry.facts)
    )
    return Told(entry.verdict, tuple(told))


def pages_note(numbers: Numbers) -> Told:
    """Return the rule by which reports have a page in print."""
    most = numbers.at("/criteria/printed_most")
    if len(numbers.survey.reported) <= numbers.survey.criteria.printed_most:
        return tell("survey.all-printed", {"most": most})
    title = Told(phrase("survey.section-1"))
    return tell("survey.named-printed", {"most": most, "title": title})


def value_of(numbers: Numbers, place: int) -> Told:
    """Return in words what a rule ranks its picture by; ``place`` is that in ``Survey.named``."""
    rule = numbers.survey.named[place].rule
    return tell(f"survey.value-{rule}", {"value": numbers.at(f"/named/{place}/value", decimal)})


def none_named(numbers: Numbers) -> Told:
    """Return why a rule names no picture."""
    return tell("survey.none-named", rests=[numbers.at("/totals/explained")])


def _total(numbers: Numbers) -> Told:
    return numbers.at("/totals/reports")


def _reports(numbers: Numbers) -> Told:
    """Return the clause on what was explained: pictures, or reports under several models."""
    if not numbers.several:
        values = {"number": numbers.at("/totals/explained"), "of": numbers.at("/totals/pictures")}
        return tell("survey.line-explained", values)
    values = {
        "number": _total(numbers),
        "of": numbers.at("/totals/asked"),
        "pictures": counting("survey.given", numbers.at("/totals/pictures")),
        "models": counting("survey.model", numbers.at("/totals/models")),
    }
    return tell("survey.line-reports", values)


def _evidence(numbers: Numbers) -> tuple[Told, ...]:
    """Return the clause on whether maps are evidence; none where the record does not say so."""
    totals = numbers.totals
    if totals.judged is None:
        return ()
    judged = numbers.at("/totals/judged")
    if not totals.judged:
        return (tell("survey.line-not-judged", rests=[judged]),)
    if not totals.beating:
        rests = [numbers.at("/totals/beating")]
        return (tell("survey.line-no-maps", {"made": judged}, rests),)
    values = {
        "better": numbers.at("/totals/beating"),
        "made": judged,
        "number": numbers.at("/totals/evident"),
        "of": _total(numbers),
    }
    return (tell("survey.line-maps", values),)


def _problems(numbers: Numbers) -> Told:
    return _found(numbers, "survey.line-problems", "survey.line-no-problems")


def _findings(numbers: Numbers) -> Told:
    return _found(numbers, "survey.findings", "survey.no-problems")


def _found(numbers: Numbers, some: str, none: str) -> Told:
    """Return the phrase ``some`` or ``none`` with the problems and cautions of all reports."""
    values = {
        "problems": counting("problem", numbers.at("/totals/problems")),
        "cautions": counting("caution", numbers.at("/totals/cautions")),
    }
    if not numbers.totals.problems:
        return tell(none, values)
    where = {"number": numbers.at("/totals/troubled"), "of": _total(numbers)}
    return tell(some, {**values, **where})


def _comparisons(numbers: Numbers, between: str) -> Iterator[Told]:
    """Yield how many comparisons ``between`` methods or models were tested, how, and the result."""
    survey = numbers.survey
    for place, one in enumerate(numbers.totals.compared):
        if one.between != between:
            continue
        if not one.tested:
            yield _none_tested(numbers, place)
            yield from _out_of_reach(numbers, place)
            continue
        yield _tested(numbers, place)
        yield from _out_of_reach(numbers, place)
        yield tell("survey.bootstrap", {"resamples": numbers.at("/criteria/resamples")})
        if one.tested > survey.criteria.compared_most:
            yield tell("survey.most-rows", {"most": numbers.at("/criteria/compared_most")})
        yield tell("survey.all-comparisons", rests=[numbers.at(f"/totals/compared/{place}/made")])


def _tested(numbers: Numbers, place: int) -> Told:
    one, where = numbers.totals.compared[place], f"/totals/compared/{place}"
    sizes = [numbers.at(f"{where}/families/{index}") for index in range(len(one.families))]
    values = {name: numbers.at(f"{where}/{name}") for name in ("tested", "made", "clear")}
    values["significant"] = numbers.at("/criteria/significant", short)
    values["sizes"] = listing(sizes)
    return tell(f"survey.tested-{one.between}", values)


def _out_of_reach(numbers: Numbers, place: int) -> Iterator[Told]:
    """Yield how many comparisons no data could have made clear, and what that would take."""
    one, where = numbers.totals.compared[place], f"/totals/compared/{place}"
    if one.out_of_reach:
        values = {name: numbers.at(f"{where}/{name}") for name in ("together", "needed")}
        values["number"], values["of"] = (
            numbers.at(f"{where}/{name}") for name in ("out_of_reach", "made")
        )
        values["pictures"] = counting("survey.given", numbers.at(f"{where}/pictures"))
        values["significant"] = numbers.at("/criteria/significant", short)
        yield tell(f"survey.out-of-reach-{one.between}", values)


def _none_tested(numbers: Numbers, place: int) -> Told:
    one, where = numbers.totals.compared[place], f"/totals/compared/{place}"
    made = numbers.at(f"{where}/made")
    reasons = []
    if one.few:
        values = {"number": numbers.at(f"{where}/few"), "of": made}
        values["fewest"] = numbers.at("/criteria/fewest")
        values["significant"] = numbers.at("/criteria/significant", short)
        reasons.append(tell("survey.too-few", values))
    if one.equal:
        values = {"number": numbers.at(f"{where}/equal"), "of": made}
        reasons.append(tell("survey.no-difference", values))
    why = joined(reasons or [tell("survey.not-comparable", rests=[made])])
    return tell(f"survey.none-tested-{one.between}", {"reasons": why})


def _unlike(numbers: Numbers) -> list[Told]:
    """Return how many comparisons between models were not made, and why."""
    parts = [
        tell(
            "survey.unlike",
            {
                "numbers": counting("survey.number", numbers.at(f"/totals/unlike/{n}/numbers")),
                "note": numbers.at(f"/totals/unlike/{n}/note", _retold),
            },
        )
        for n in range(len(numbers.totals.unlike))
    ]
    return [tell("survey.full-stop", {"words": joined(parts)})] if parts else []


def _retold(note: str) -> str:
    return retold("note", note)


def _scope(numbers: Numbers) -> Told:
    models = range(len(numbers.survey.models))
    keys = [key.replace("~", "~0").replace("/", "~1") for key in numbers.survey.titles]
    return tell(
        "survey.scope",
        {
            "pictures": counting("survey.explained", numbers.at("/totals/explained")),
            "number": counting("survey.model", numbers.at("/totals/models")),
            "models": listing(_model(numbers, f"/models/{place}/key") for place in models),
            "kinds": counting("survey.method", numbers.at("/totals/methods")),
            "methods": listing(numbers.at(f"/titles/{key}", str) for key in keys),
        },
    )


def _model(numbers: Numbers, pointer: str) -> Told:
    return numbers.at(pointer, lambda key: shortened(key, NAME))


def _failures(numbers: Numbers) -> list[Told]:
    """Return how many pictures have no report at all, and how many more reports are missing."""
    parts = [
        tell(
            f"survey.{kind}",
            {"number": numbers.at(f"/totals/{kind}"), "of": numbers.at(f"/totals/{of}")},
        )
        for kind, of in (("lost", "pictures"), ("further", "asked"))
        if getattr(numbers.totals, kind)
    ]
    return [tell("survey.failed", {"words": joined(parts)})] if parts else []


def _passed_over(numbers: Numbers) -> list[Told]:
    if not numbers.survey.passed_over:
        return []
    files = counting("survey.other-files", numbers.at("/passed_over"))
    return [tell("survey.passed-over", {"files": files})]


def _same(numbers: Numbers) -> list[Told]:
    return [
        tell(
            "survey.same-class",
            {
                "first": _model(numbers, f"/same/{place}/first"),
                "second": _model(numbers, f"/same/{place}/second"),
                "number": numbers.at(f"/same/{place}/same"),
                "of": numbers.at(f"/same/{place}/pictures"),
            },
        )
        for place, one in enumerate(numbers.survey.same)
        if one.pictures
    ]


def _doubts(numbers: Numbers) -> list[Told]:
    if not numbers.totals.doubts:
        return []
    many = counting("survey.doubtful", numbers.at("/totals/doubts"))
    title = Told(phrase("survey.section-4"))
    return [tell("survey.doubts", {"numbers": many, "title": title})]
