"""What must become of every file of the corpus and of those made here, and the table that says so in the documentation."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from made import MADE
from meter import Cost

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "inputs.md"
TITLES = ("class", "files", "outcome", "CPU seconds", "peak MiB")
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one file."""

    outcome: str
    """`ok`, a code, or which pages fail with which: `ok, 2-3 corrupt_file`."""
    pages: int
    """Lines of the result; a document that is refused as a whole has one."""


def of_corpus() -> dict[str, Expected]:
    """By file name."""
    rows = csv.DictReader(
        io.StringIO((HERE / "expected.tsv").read_text()), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    return {row["file"]: Expected(row["expected"], int(row["pages"])) for row in rows}


def of_made() -> dict[tuple[str, str], Expected]:
    """By class and file name."""
    return {
        (kind, name): Expected(made.expected, made.pages)
        for kind, files in MADE.items()
        for name, made in files.items()
    }


def by_class() -> dict[str, list[str]]:
    """The outcomes of each class of files; the corpus writes the class before the name."""
    found: dict[str, list[str]] = {}
    for name, expected in of_corpus().items():
        found.setdefault(name.partition("__")[0], []).append(expected.outcome)
    for (kind, _), expected in of_made().items():
        found.setdefault(kind, []).append(expected.outcome)
    return found


def rows(costs: Mapping[str, Cost]) -> Iterator[tuple[str, ...]]:
    """Lines of the table; of a class nobody measured the costs are left out."""
    for kind, outcomes in by_class().items():
        counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
        told = "; ".join(
            outcome if len(counts) == 1 else f"{outcome} ({count})" for outcome, count in counts.items()
        )
        cost = costs.get(kind)
        measured = (f"{cost.seconds:.2f}", f"{cost.memory / _MIB:.0f}") if cost else ("", "")
        yield (kind, str(len(outcomes)), told, *measured)


def table(costs: Mapping[str, Cost]) -> str:
    """As Markdown."""
    lines = [TITLES, tuple("---" for _ in TITLES), *rows(costs)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def documented() -> list[tuple[str, ...]]:
    """What the documentation says, without the costs."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [row[:3] for row in cells[cells.index(TITLES) + 1 :] if set(row[0]) != {"-"}]
