"""How often the checker of a language model's sentences is wrong, on the corpus of the tests.

    python benchmarks/narration.py [--out benchmarks/results/narration.md]

A false sentence accepted is an error of the report; a true one refused costs only its words.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "narrative"))

from narration_corpus import TRUE, narrations  # noqa: E402

from reportgen.narrative.checking import read_lexicon  # noqa: E402


def table(counts: Counter[tuple[str, str]]) -> str:
    """Return the counts by kind of narration: how many, and how many of them were accepted."""
    kinds = Counter({kind: 0 for kind, _ in counts})
    for (kind, _), number in counts.items():
        kinds[kind] += number
    rows = [f"| {k} | {n} | {counts[(k, '')]} | {n - counts[(k, '')]} |" for k, n in kinds.items()]
    return "\n".join(["| kind | narrations | accepted | refused |", "|---|---|---|---|", *rows])


def reasons(counts: Counter[tuple[str, str]]) -> str:
    """Return how often each reason was given for refusing a false narration, and a true one."""
    found = sorted({reason for _, reason in counts if reason})
    rows = []
    for reason in found:
        true = counts[(TRUE, reason)]
        false = sum(n for (_, r), n in counts.items() if r == reason) - true
        rows.append(f"| {reason} | {false} | {true} |")
    return "\n".join(["| reason | of false ones | of true ones |", "|---|---|---|", *rows])


def main() -> None:
    """Check all narrations, print the rates, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/narration.md")
    options = parser.parse_args()
    lexicon = read_lexicon("en")
    counts = Counter((n.kind, str(n.refusal(lexicon))) for n in narrations())
    true = sum(n for (kind, _), n in counts.items() if kind == TRUE)
    accepted = sum(n for (kind, r), n in counts.items() if kind != TRUE and not r)
    refused = true - counts[(TRUE, "")]
    summary = (
        f"{accepted} of {counts.total() - true} false narrations accepted; "
        f"{refused} of {true} true ones refused ({refused / true:.0%})."
    )
    print(summary)
    parts = [
        "# The checker of a language model's sentences",
        "Made by `python benchmarks/narration.py`.",
        summary,
        table(counts),
        reasons(counts),
    ]
    options.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
