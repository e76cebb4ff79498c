"""Lines and words of a page with their places: regions give lines, and a line's words share its box by their width."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright page."""

# Of a common sans serif, in thousandths of its size, from the space on: words then stand where they are seen.
_ASCII = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
)  # fmt: skip
_OTHER, _WIDE = 556, 1000
# What XML cannot hold, and what is no character: lone surrogates, controls.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACES = re.compile(r"[\s\u3000]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text in its box."""

    text: str
    """Without breaks, and with single spaces only."""
    box: Box
    confidence: float | None

    @property
    def vertical(self) -> bool:
        """Whether it is read from top to bottom."""
        x0, y0, x1, y1 = self.box
        return len(self.text) > 1 and y1 - y0 > 2 * (x1 - x0)


@lru_cache(maxsize=16_384)
def width(char: str) -> int:
    """Of a character, in thousandths of the font's size; 0 for one that stands over another."""
    if " " <= char <= "~":
        return _ASCII[ord(char) - 32]
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return _WIDE if unicodedata.east_asian_width(char) in "WF" else _OTHER


def advance(text: str) -> int:
    """The width of a text, in thousandths of the font's size; never 0."""
    return sum(map(width, text)) or _OTHER


def lines(regions: Sequence[Mapping[str, Any]]) -> Iterator[list[Line]]:
    """For each region with text its lines: those of a paragraph share its box evenly."""
    for region in regions:
        texts = [found for line in str(region.get("text") or "").splitlines() if (found := clean(line))]
        x0, y0, x1, y1 = (float(side) for side in region["box"])
        if not texts or x1 <= x0 or y1 <= y0:
            continue
        height = (y1 - y0) / len(texts)
        confidence = region.get("confidence")
        yield [
            Line(text, (x0, y0 + n * height, x1, y0 + (n + 1) * height), confidence)
            for n, text in enumerate(texts)
        ]


def words(line: Line) -> Iterator[tuple[str, Box]]:
    """The line's words, each with its share of the box."""
    x0, y0, x1, y1 = line.box
    total, done = advance(line.text), 0
    for n, word in enumerate(line.text.split(" ")):
        done += width(" ") if n else 0
        begin, done = done / total, done + sum(map(width, word))
        end = min(1.0, done / total)
        if line.vertical:
            yield word, (x0, y0 + begin * (y1 - y0), x1, y0 + end * (y1 - y0))
        else:
            yield word, (x0 + begin * (x1 - x0), y0, x0 + end * (x1 - x0), y1)


def clean(line: str) -> str:
    """The text on one line, with single spaces, without what neither XML nor a font can hold."""
    return _SPACES.sub(" ", _UNWANTED.sub("", line)).strip()
