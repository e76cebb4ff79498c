"""Character error rate of recognised pages, as pure functions."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from worker.engines.lines import reading_order


@dataclass(frozen=True, slots=True)
class Score:
    """Edits against the characters of the ground truth; sums of scores are micro-averages."""

    edits: int = 0
    characters: int = 0
    pages: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.edits + other.edits, self.characters + other.characters, self.pages + other.pages)

    @property
    def cer(self) -> float:
        return self.edits / self.characters if self.characters else 0.0


def normalise(text: str) -> str:
    """NFKC, case folded, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def score(truth: str, output: str) -> Score:
    """The score of one page."""
    expected = normalise(truth)
    return Score(Levenshtein.distance(expected, normalise(output)), len(expected), 1)


def ordered_text(lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Lines with a box (4 numbers) or corners (8) each, in the engine's own reading order."""
    corners = np.array([_corners(box) for _, box in lines], dtype=np.float64).reshape(-1, 4, 2)
    return join(reading_order(corners), [text for text, _ in lines])


def join(rows: Sequence[Sequence[int]], texts: Sequence[str]) -> str:
    """One line of output for each row."""
    return "\n".join(" ".join(texts[i] for i in row) for row in rows)


def _corners(box: Sequence[float]) -> Sequence[float]:
    if len(box) == 8:
        return box
    x0, y0, x1, y1 = box
    return x0, y0, x1, y0, x1, y1, x0, y1


def read_receipt(path: Path) -> list[tuple[str, Sequence[float]]]:
    """Lines of an ICDAR-2019 SROIE file: eight coordinates, then the text with its commas."""
    lines: list[tuple[str, Sequence[float]]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split(",", 8)
        if len(parts) == 9:
            lines.append((parts[8], [float(part) for part in parts[:8]]))
    return lines
