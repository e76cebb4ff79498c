"""From the lines of a page to what a result says of it: text, plain paragraphs, language, warnings."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from worker.engines.base import Pixels
from worker.engines.lines import Quads

LOW_CONFIDENCE = 0.8
"""Mean over the characters of a page; clean and photographed pages that read well have 0.97 and more."""
_FULL_LINE = 0.85
"""A row that fills this share of the page's text width goes on in the next one."""
_NEAR = 0.9
"""Rows nearer than this many heights belong to one paragraph."""
_INDENT = 2.5
"""Heights by which the first line of a paragraph may stand apart from the others."""
_BLANK_INK = 0.0005
_CONTRAST = 24
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "a and are as at be by cash date for from have in invoice is it no not of on"
        " or page please tel thank that the this to total was we with you your",
    )
)


@dataclass(frozen=True, slots=True)
class Row:
    """What stands on one height of the page, with the box around it."""

    text: str
    parts: int
    left: float
    top: float
    right: float
    bottom: float


def rows_of(quads: Quads, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> list[Row]:
    """One row for each of the reading order's, its parts joined by a space."""
    joined: list[Row] = []
    for row in rows:
        points = quads[list(row)].reshape(-1, 2)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        text = " ".join(texts[i] for i in row)
        joined.append(Row(text, len(row), float(left), float(top), float(right), float(bottom)))
    return joined


def paragraphs(rows: Sequence[Row]) -> str:
    """Markdown: rows that fill their width flow into the next, the others end a line, a gap ends a paragraph."""
    if not rows:
        return ""
    parts = [rows[0].text]
    for above, row in pairwise(rows):
        parts += [_joint(above, row, rows), row.text]
    return "".join(parts)


def _joint(above: Row, row: Row, rows: Sequence[Row]) -> str:
    height = min(above.bottom - above.top, row.bottom - row.top)
    gap = row.top - above.bottom
    if gap > _NEAR * height or gap < -height:
        return "\n\n"
    column = [other for other in rows if other.left < above.right and other.right > above.left]
    left, right = min(other.left for other in column), max(other.right for other in column)
    full = above.right - left >= _FULL_LINE * (right - left)
    aligned = abs(above.left - row.left) <= _INDENT * height
    # What stands in several parts on one row, such as a label and its amount, is no prose.
    if not (full and aligned and above.parts == row.parts == 1):
        return "  \n"
    return "" if _is_cjk(above.text[-1]) or _is_cjk(row.text[0]) else " "


def language(text: str) -> str | None:
    """`zh`, `ja`, `ko` or `en` when the script or common words say so, None otherwise."""
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return None
    kana = sum("\u3040" <= char <= "\u30ff" for char in letters)
    hangul = sum("\uac00" <= char <= "\ud7a3" for char in letters)
    han = sum(_is_cjk(char) for char in letters) - kana - hangul
    # One character of these scripts says as much as two or three Latin letters.
    if 3 * (han + kana + hangul) > len(letters):
        if hangul > han + kana:
            return "ko"
        return "ja" if kana > 0.1 * (han + kana) else "zh"
    words = re.findall(r"[a-z]+", text.casefold())
    known = sum(word in _ENGLISH for word in words)
    return "en" if known >= 3 and known >= 0.08 * len(words) else None


def _is_cjk(char: str) -> bool:
    return char.isalpha() and unicodedata.east_asian_width(char) == "W"


def is_blank(pixels: Pixels) -> bool:
    """Whether hardly any pixel differs from those around it; scanner noise and shading are no content."""
    step = max(1, max(pixels.shape[:2]) // 1000)
    grey = pixels[::step, ::step].mean(axis=2)
    across = np.abs(np.diff(grey, axis=1)) > _CONTRAST
    return bool(across.mean() < _BLANK_INK) if across.size else True


def mean_confidence(texts: Sequence[str], scores: Sequence[float]) -> float:
    """Weighted by characters; 1.0 for no text."""
    weights = [len(text) for text in texts]
    return float(np.average(scores, weights=weights)) if texts else 1.0
