"""All that a template sentence may become: rows of concepts reached by rules that keep its meaning.

A row holds concepts, ``{fact names}`` and, before ``bare``, marks of punctuation. A draft is right
where its own row is one of those that its template can become; nothing is guessed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise, product

from reportgen.narrative.lexicon import BE, IN, OF, Lexicon, Reading

Row = tuple[str, ...]
# "&" stands for what joins two clauses, "and" or "while", and "~" for "which" or "where".
MARKS = frozenset(",;:().&~")
# More than any template of ours can become; a template that could become more is rewritten less.
MOST_ROWS = 300
_MOST_READINGS = 64
_LONGEST_PIECE = 4


def is_name(token: str) -> bool:
    """Return whether a token is a ``{fact name}``."""
    return token.startswith("{")


def rows(items: Iterable[tuple[Row, ...]]) -> Iterator[Row]:
    """Return the rows that a text can be read as; ``items`` holds the readings of its phrases."""
    for number, choice in enumerate(product(*items)):
        if number == _MOST_READINGS:
            return
        yield tuple(token for reading in choice for token in reading)


def without_nouns(row: Row, lexicon: Lexicon) -> Row:
    """Return the row without the nouns beside a fact that only say what that fact is.

    Those that its kind keeps are added to its token: "{name}DELETION".
    """
    found = list(row)
    at = 0
    while at < len(found):
        kind = lexicon.kind(found[at])
        if kind is not None:
            end, start = _after(found, at, kind.nouns), _before(found, at, kind.nouns)
            said = kind.kept & {*found[start:at], *found[at + 1 : end]}
            found[start:end] = [found[at] + "".join(sorted(said))]
            at = start
        at += 1
    return tuple(found)


def _before(row: list[str], at: int, nouns: frozenset[str]) -> int:
    """Return where the nouns before ``at`` begin: "deletion AUC of", "AUC in deletion of"."""
    start = at
    while True:
        step = start - 1
        while step >= 0 and row[step] in (OF, BE, *((IN, "(") if start < at else ())):
            step -= 1
        if step < 0 or row[step] not in nouns:
            return start
        start = step


def _after(row: list[str], at: int, nouns: frozenset[str]) -> int:
    """Return where the nouns behind ``at`` end: "classes", "in deletion"."""
    end = at + 1
    while end < len(row):
        step = end + (row[end] == IN)
        if step >= len(row) or row[step] not in nouns:
            return end
        end = step + 1
    return end


def bare(row: Row) -> Row:
    """Return the row without marks and without the words that carry nothing by themselves."""
    kept = [token for token in row if token not in MARKS and token not in (OF, BE)]
    pairs = zip(kept, (*kept[1:], ""), strict=True)
    return tuple(token for token, after in pairs if token != IN or not is_name(after))


def reachable(row: Row, lexicon: Lexicon) -> frozenset[Row]:
    """Return all that ``row``, a template's with its marks, may become."""
    # By each row, the rules it was made with that are used once.
    found = {bare(start): frozenset[str]() for start in _fronted(row, lexicon)}
    waiting = deque(found)
    while waiting and len(found) < MOST_ROWS:
        changing = waiting.popleft()
        for changed, rule in _rewritten(changing, found[changing], lexicon):
            if changed not in found:
                found[changed] = found[changing] | ({rule} if rule else set())
                waiting.append(changed)
    return frozenset(found)


def _fronted(row: Row, lexicon: Lexicon) -> Iterator[Row]:
    """Return the row, and it with "in ..." moved from one end of its clause to the other."""
    yield row
    for start, end in _clauses(row):
        clause = row[start:end]
        if lexicon.negations & set(clause):
            continue
        cut = max((i for i, token in enumerate(clause) if token == IN), default=0)
        if (
            cut > 0
            and len(clause) - cut <= _LONGEST_PIECE
            and not lexicon.anchors & set(clause[cut:])
        ):
            yield (*row[:start], *clause[cut:], ",", *clause[:cut], *row[end:])
        following = next((stop for begin, stop in _clauses(row) if begin == end + 1), None)
        short = 0 < len(clause) <= _LONGEST_PIECE and clause[0] == IN
        if short and following is not None and not lexicon.negations & set(row[end:following]):
            yield (*row[:start], *row[end + 1 : following], *clause, *row[following:])


def _clauses(row: Row) -> list[tuple[int, int]]:
    """Return where each stretch between two marks begins and ends."""
    cuts = [-1, *(i for i, token in enumerate(row) if token in MARKS), len(row)]
    return [(a + 1, b) for a, b in pairwise(cuts)]


def _rewritten(row: Row, used: frozenset[str], lexicon: Lexicon) -> Iterator[tuple[Row, str]]:
    """Return each row that one change makes, and the name of its rule if that is used once."""
    kinds = {f"${kind.key}" for token in row if (kind := lexicon.kind(token)) is not None}
    held = kinds.union(row)
    for change in lexicon.changes:
        if change.needed <= held and change.once not in used:
            for start in range(1 if change.whole else len(row)):
                for end, runs in matches(change.form, row, start, lexicon):
                    if not change.whole or end == len(row):
                        changed = (*row[:start], *_filled(change.other, runs), *row[end:])
                        yield changed, change.once


Runs = Mapping[str, Row]


def matches(form: Reading, row: Row, at: int, lexicon: Lexicon) -> Iterator[tuple[int, Runs]]:
    """Return each way in which ``form`` fits the row from ``at`` on: its end, and its variables."""
    if not form:
        yield at, {}
        return
    part, rest = form[0], form[1:]
    for end in _ends(part, row, at, lexicon):
        for stop, runs in matches(rest, row, end, lexicon):
            yield stop, {**runs, part: row[at:end]}


def _ends(part: str, row: Row, at: int, lexicon: Lexicon) -> Iterator[int]:
    """Return where one part of a form may end: a concept, a ``$kind``, ``*`` or a whole run."""
    if part.startswith("%"):
        yield from range(at + 1, len(row) + 1)
    elif part == "*":
        end = at
        while end < len(row) and not is_name(row[end]):
            end += 1
            yield end
    elif at < len(row) and _fits(part, row[at], lexicon):
        yield at + 1


def _fits(part: str, token: str, lexicon: Lexicon) -> bool:
    if not part.startswith("$"):
        return part == token
    kind = lexicon.kind(token)
    return kind is not None and kind.key == part[1:].rstrip("123")


def _filled(form: Reading, runs: Runs) -> Iterator[str]:
    for part in form:
        yield from runs.get(part, (part,))
