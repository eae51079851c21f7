"""What stands between the words of a sentence: commas, colons, "of", "is"; they carry meaning too.

"No, rotation changes it" is not "no rotation changes it", nor is "none can tell these" the same as
"none can tell: these". Where a draft has two concepts side by side as its template has them, what
joins them has to be alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reportgen.narrative.lexicon import BE, IN, JOIN, OF, PASSIVE, WHICH, Lexicon
from reportgen.narrative.rewriting import MARKS, Row, is_name

Glue = frozenset[str]
Joints = Mapping[tuple[str, str], frozenset[Glue]]
# What is stronger than a comma.
_STOPS = frozenset(";:")


def joints(rows: Iterable[Row]) -> Joints:
    """Return all that joins each two concepts which stand side by side in some of the rows."""
    found: dict[tuple[str, str], frozenset[Glue]] = {}
    for row in rows:
        for pair, glue in _joined(row):
            found[pair] = found.get(pair, frozenset()) | {glue}
    return found


def is_joined_otherwise(row: Row, template: Joints, lexicon: Lexicon) -> bool:
    """Return whether a row joins two concepts in a way that its template's joints rule out."""
    closing = _closing(template)
    opening = {after for before, after in template if not before} - lexicon.leading
    for pair, glue in _joined(row):
        if pair in template:
            if not any(_is_alike(pair, glue, own, lexicon) for own in template[pair]):
                return True
        elif pair[0] in closing and pair[1] in opening and not glue & MARKS:
            return True  # what the template begins with, run into what has come before it
    return False


def _closing(template: Joints) -> frozenset[str]:
    """Return the concepts that a mark always follows: "... the only curve that can tell, ..."."""
    always: dict[str, bool] = {}
    for (before, _), glues in template.items():
        always[before] = always.get(before, True) and all(glue & MARKS for glue in glues)
    return frozenset(concept for concept, is_so in always.items() if concept and is_so)


def _joined(row: Row) -> Iterator[tuple[tuple[str, str], Glue]]:
    before, glue = "", set[str]()
    for at, token in enumerate(row):
        following = next((t for t in row[at + 1 :] if t not in (OF, BE)), "")
        if token in MARKS or token in (OF, BE) or (token == IN and is_name(following)):
            glue.add(token)
            continue
        yield (before, token), frozenset(glue)
        before, glue = token, set()


def _is_alike(pair: tuple[str, str], glue: Glue, own: Glue, lexicon: Lexicon) -> bool:
    """Return whether ``glue`` may stand for the template's ``own`` between the two of ``pair``."""
    if glue == own:
        return True
    return _keeps_marks(pair, glue, own, lexicon) and _keeps_words(pair, glue, own, lexicon)


def _keeps_marks(pair: tuple[str, str], glue: Glue, own: Glue, lexicon: Lexicon) -> bool:
    marks, kept = glue & MARKS, own & MARKS
    if not kept:
        return not marks or _may_be_marked(pair, marks, own, lexicon)
    if ":" in kept and is_name(pair[1]) and not is_name(pair[0]):
        return ":" in marks
    if kept & _STOPS:
        return bool(marks) and not (WHICH in marks and BE in glue)
    if kept == {","} and is_name(pair[0]) and pair[1] == "LEAD" and marks & {JOIN, WHICH}:
        return False
    if (marks & _STOPS and not kept & {",", JOIN, WHICH}) or (marks == {WHICH} and JOIN in kept):
        return False
    return bool(marks or glue & own or BE in glue) or not is_name(pair[1])


def _may_be_marked(pair: tuple[str, str], marks: Glue, own: Glue, lexicon: Lexicon) -> bool:
    """Return whether there may be marks where the template has none: none behind "no", no stop."""
    weighty = lexicon.negations | (lexicon.hedges - lexicon.adverbs)
    is_said = OF in own or (BE in own and not is_name(pair[1]))
    return not (marks & _STOPS or is_said or pair[0] in weighty)


def _keeps_words(pair: tuple[str, str], glue: Glue, own: Glue, lexicon: Lexicon) -> bool:
    words, kept = glue - MARKS, own - MARKS
    names = [is_name(token) for token in pair]
    if OF in words - kept and not all(names):
        return False
    if all(names):
        return kept - words <= {IN} and words - kept <= _new_words(glue, own)
    if names[0] and BE in kept and pair[1] in lexicon.comparisons:
        return bool(glue)
    if BE in words - kept and not glue & MARKS:
        return pair[1] == PASSIVE or pair[1] in lexicon.negations
    return not (names[1] and kept == {OF} and words & {BE, IN})


def _new_words(glue: Glue, own: Glue) -> Glue:
    """Return what may come between two facts: "as" for nothing or a comma, "which is", "is of"."""
    leading = {IN} if not own or "," in own else set()
    saying = {BE} if WHICH in glue or OF in own else set()
    return frozenset(leading | saying)
