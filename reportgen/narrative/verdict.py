"""The verdict: one line on what was predicted, whether maps are evidence, and what to distrust."""

from __future__ import annotations

from reportgen.narrative.story import Story, story_of
from reportgen.records import Report, Sentence

# Judgements that the line does not tell apart.
_SAME = {
    "no-single-map": "no-maps",
    "neither-map": "no-maps",
}


def verdict_of(report: Report) -> Sentence:
    """Return the verdict on a report that has its facts and findings."""
    story = story_of(report)
    judgement = story.judgement()
    clauses = ((_said(story), ""), (f"line-{_SAME.get(judgement, judgement)}", ""))
    return _joined(story, story.written(clauses))


def _said(story: Story) -> str:
    """Return the clause on what the model says, and on what is explained where that is another."""
    prediction = story.report.prediction
    if prediction.contrast is not None:
        return "line-contrast"
    if not story.several:
        return "line-other" if story.explains_another else "line-predicted"
    return "line-held" if prediction.target in prediction.holding else "line-not-held"


def _joined(story: Story, clauses: tuple[Sentence, ...]) -> Sentence:
    """Return the clauses as one line, with the gravest finding that they do not tell at its end."""
    gravest = next(iter(story.weaknesses()), None)
    if gravest is not None and gravest.brief is not None:
        lead = story.written([(f"line-{gravest.severity}", "")])
        first, last = _chained("; ", clauses), _chained(" ", (*lead, gravest.brief))
        return _chained(". ", (first, last))
    if not any(f.severity in ("problem", "caution") for f in story.report.findings):
        clauses = (*clauses, *story.written([("line-nothing", "")]))
    return _ended(_chained("; ", clauses))


def _chained(between: str, parts: tuple[Sentence, ...]) -> Sentence:
    return Sentence(
        text=between.join(part.text for part in parts),
        pattern=between.join(part.pattern for part in parts),
        facts=tuple(dict.fromkeys(name for part in parts for name in part.facts)),
    )


def _ended(line: Sentence) -> Sentence:
    return Sentence(text=f"{line.text}.", pattern=f"{line.pattern}.", facts=line.facts)
