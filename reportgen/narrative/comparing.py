"""Where a draft's row of concepts differs from all that its template's row can become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reportgen.narrative.joints import Joints, is_joined_otherwise, joints
from reportgen.narrative.lexicon import BY, FROM, GO, IN, TO, Lexicon
from reportgen.narrative.lexing import plain, read, tokens
from reportgen.narrative.rewriting import MARKS, Row, bare, is_name, reachable, rows, without_nouns
from reportgen.records import Fact

Refusal = Literal[
    "",
    "format",
    "language",
    "number",
    "unknown fact",
    "missing fact",
    "repetition",
    "too long",
    "several sentences",
    "cause",
    "certainty",
    "unknown word",
    "negation",
    "hedge",
    "order or sign",
]


@dataclass(frozen=True)
class Becoming:
    """All ``rows`` that a template may become, the concepts they have, and each row sorted.

    ``behind`` says how often each adverb belongs to what stands before it, ``joints`` what stands
    between two concepts. In one clause, what is the only one of its kind may move.
    """

    rows: frozenset[Row]
    behind: Counter[str]
    joints: Joints
    is_one_clause: bool
    concepts: frozenset[str]
    sorted_rows: frozenset[Row]


@lru_cache(maxsize=512)
def becomes(pattern: str, lexicon: Lexicon) -> Becoming:
    """Return all rows that a template's sentence, with its names, may become."""
    starts = {without_nouns(row, lexicon) for row in readings(pattern, lexicon)}
    found = frozenset[Row]().union(*(reachable(start, lexicon) for start in starts))
    concepts = frozenset(token for row in found for token in row)
    return Becoming(
        found,
        _behind(min(starts), lexicon),
        joints(starts),
        not any({";", ":"} & set(start) for start in starts),
        concepts,
        frozenset(tuple(sorted(row)) for row in found),
    )


def readings(text: str, lexicon: Lexicon) -> Iterator[Row]:
    """Return the rows of concepts that a text can be read as."""
    return rows(read(tokens(plain(text), lexicon), lexicon)[0])


def difference(
    row: Row, template: Becoming, facts: Mapping[str, Fact], lexicon: Lexicon
) -> Refusal:
    """Return how a draft's row differs from all of its template's; "" where it is one of them."""
    named = without_nouns(row, lexicon)
    if _behind(row, lexicon) != template.behind:
        return "hedge"
    if is_joined_otherwise(named, template.joints, lexicon):
        return "order or sign"
    own = _true_ones_dropped(bare(named), template.concepts, facts, lexicon)
    if own in template.rows:
        return ""
    if tuple(sorted(own)) not in template.sorted_rows:
        return _reason(own, template, lexicon)
    loose = _marked(named, lexicon) if template.is_one_clause else frozenset()
    moved = _apart(own, loose, lexicon)
    if any(_apart(other, loose, lexicon) == moved for other in template.rows):
        return ""
    return "order or sign"


def _behind(row: Row, lexicon: Lexicon) -> Counter[str]:
    """Return how often each adverb stands before a mark and behind none: "... on average; they"."""
    threes = zip((".", *row), row, (*row[1:], "."), strict=False)
    return Counter(
        token
        for before, token, after in threes
        if token in lexicon.adverbs and after in MARKS and before not in MARKS
    )


def _marked(row: Row, lexicon: Lexicon) -> frozenset[str]:
    """Return the names that may move, since a preposition leads them and no other is of their kind.

    "With a probability of {p}, ..." is as clear at the beginning as at the end.
    """
    kinds = {token: lexicon.kind(token) for token in row if is_name(token)}
    count = Counter(kind.key for kind in kinds.values() if kind)
    pairs = zip(("", *row), row, strict=False)
    return frozenset(
        token
        for before, token in pairs
        if before in (IN, BY)
        and (kind := kinds.get(token)) is not None
        and kind.moves
        and count[kind.key] == 1
    )


def _apart(
    row: Row, loose: frozenset[str], lexicon: Lexicon
) -> tuple[Row, frozenset[tuple[str, int]]]:
    """Return the row without what is loose, and how many anchors stand before each of that."""
    rest, places, anchors = [], set(), 0
    for token in row:
        anchors += token in lexicon.anchors
        if token in loose:
            places.add((token, anchors))
        else:
            rest.append(token)
    return tuple(rest), frozenset(places)


def _true_ones_dropped(
    row: Row, known: frozenset[str], facts: Mapping[str, Fact], lexicon: Lexicon
) -> Row:
    """Return the row without the comparisons that only the draft makes, and that are true."""
    kept = list(row)
    for at, token in enumerate(row):
        if token in known:
            continue
        ends = _course_ends(row[at + 1 : at + 5])
        if token in lexicon.courses and ends:
            low, high = ends if lexicon.courses[token] > 0 else ends[::-1]
            kept[at] = GO if _is_above(high, low, facts) else token
        elif token in lexicon.comparisons and 0 < at < len(row) - 1:
            ends = (row[at - 1], row[at + 1])
            high, low = ends if lexicon.comparisons[token] > 0 else ends[::-1]
            alike = _kind_of(high, lexicon) == _kind_of(low, lexicon) != ""
            is_true = alike and _is_above(high, low, facts) and _is_bounded(high, low, facts)
            kept[at] = "" if is_true else token
    return tuple(token for token in kept if token)


def _course_ends(row: Row) -> tuple[str, str] | None:
    """Return where a course begins and ends: "from {a} to {b}"."""
    if len(row) == 4 and (row[0], row[2]) == (FROM, TO):
        return row[1], row[3]
    return (row[3], row[1]) if len(row) == 4 and (row[0], row[2]) == (TO, FROM) else None


def _kind_of(token: str, lexicon: Lexicon) -> str:
    kind = lexicon.kind(token)
    return kind.key if kind else ""


def _is_bounded(one: str, other: str, facts: Mapping[str, Fact]) -> bool:
    """Return whether a comparison of two facts can be more than chance: one has an interval."""
    return any(fact is not None and fact.interval for fact in _facts(one, other, facts))


def _facts(one: str, other: str, facts: Mapping[str, Fact]) -> list[Fact | None]:
    return [facts.get(token[1 : token.index("}")]) for token in (one, other)]


def _is_above(high: str, low: str, facts: Mapping[str, Fact]) -> bool:
    """Return whether one fact's number is above another's, as both are shown and surely so.

    Intervals may not overlap.
    """
    above, below = _facts(high, low, facts)
    if above is None or below is None:
        return False
    values = [fact.value for fact in (above, below)]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return False
    if above.text == below.text:
        return False
    ends = [fact.interval or (fact.value, fact.value) for fact in (above, below)]
    return bool(ends[0][0] > ends[1][1])  # type: ignore[operator]


def _reason(row: Row, template: Becoming, lexicon: Lexicon) -> Refusal:
    """Return the plainest difference from the template's rows: what no row of theirs has."""
    kinds: Mapping[Refusal, frozenset[str]] = {
        "negation": lexicon.negations,
        "hedge": lexicon.hedges,
    }
    for reason, concepts in kinds.items():
        own = [token for token in sorted(row) if token in concepts]
        if not any([t for t in other if t in concepts] == own for other in template.sorted_rows):
            return reason
    return "order or sign"
