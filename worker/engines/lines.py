"""The reading order of text lines: rows by height on the page, columns where a page has columns of prose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Quads = NDArray[np.float64]
"""(lines, 4, 2): the corners of each line, clockwise from its top left."""
Row = list[int]
"""Indices of the lines that stand beside one another, from left to right."""

_SAME_ROW = 0.5
"""Centres nearer than this share of the smaller height stand on one row."""
_GUTTER_RANGE = (0.25, 0.75)
_COLUMN_LINES = 4
"""Fewer lines on either side of a gutter are no columns."""
_SLOPE_ASPECT = 3
_MAX_SLOPE = 0.6
_NEIGHBOURS = 5
"""The slope at a line is the median of so many lines near it, of those long enough to tell."""
_PROSE_ASPECT = 8.0
_PROSE_FILL = 0.6
"""The middle line of a column of prose is this many heights long and fills this share of the column; the
amounts of a receipt and the cells of a table are and do not."""


@dataclass(frozen=True, slots=True)
class _Box:
    index: int
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def middle(self) -> float:
        return (self.y0 + self.y1) / 2

    @property
    def height(self) -> float:
        return self.y1 - self.y0


def reading_order(quads: Quads) -> list[Row]:
    """Rows from top to bottom; two columns of prose are read one after the other, labels and amounts by row.

    Lines that run up or down the page, such as a stamp in the margin, come last, each alone.
    """
    if len(quads) == 0:
        return []
    boxes = _levelled(quads)
    usual = float(np.median([box.height for box in boxes]))
    upright = [box for box in boxes if not _runs_down(box, usual)]
    margin = [box for box in boxes if _runs_down(box, usual)]
    return [[box.index for box in row] for row in [*_blocks(upright), *([box] for box in margin)]]


def _levelled(quads: Quads) -> list[_Box]:
    """The lines as on a page without slope; a photographed page slopes more at one end than at the other."""
    across = (quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]) / 2
    down = (quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1]) / 2
    width, height = np.hypot(*across.T), np.hypot(*down.T)
    centre = quads.mean(axis=1)
    long = (width > _SLOPE_ASPECT * height) & (np.abs(across[:, 1]) < _MAX_SLOPE * np.abs(across[:, 0]))
    slopes, heights_on_page = across[long, 1] / across[long, 0], centre[long, 1]
    middle = (centre[:, 0].min() + centre[:, 0].max()) / 2
    boxes: list[_Box] = []
    for i, (x, y) in enumerate(centre):
        nearest = np.argsort(np.abs(heights_on_page - y))[:_NEIGHBOURS]
        slope = float(np.median(slopes[nearest])) if len(nearest) else 0.0
        level = float(y) - slope * float(x - middle)
        half_width, half_height = float(width[i]) / 2, float(height[i]) / 2
        boxes.append(_Box(i, x - half_width, level - half_height, x + half_width, level + half_height))
    return boxes


def _runs_down(box: _Box, usual: float) -> bool:
    return box.height > 2 * usual and box.height > 1.5 * (box.x1 - box.x0)


def _blocks(boxes: Sequence[_Box]) -> list[list[_Box]]:
    gutter = _gutter(boxes)
    if gutter is None:
        return _rows(boxes)
    rows: list[list[_Box]] = []
    band: list[_Box] = []
    # A line across the gutter, such as a title, ends what stands above it.
    for box in sorted(boxes, key=lambda box: box.middle):
        if box.x0 < gutter < box.x1:
            rows += _band(band, gutter)
            rows.append([box])
            band = []
        else:
            band.append(box)
    return rows + _band(band, gutter)


def _band(boxes: Sequence[_Box], gutter: float) -> list[list[_Box]]:
    left = [box for box in boxes if box.x1 <= gutter]
    right = [box for box in boxes if box.x0 >= gutter]
    if _in_columns(left) and _in_columns(right):
        return _blocks(left) + _blocks(right)
    return _rows(boxes)


def _gutter(boxes: Sequence[_Box]) -> float | None:
    """The x that the fewest lines cross and that has columns of prose on both sides, or None."""
    if len(boxes) < 2 * _COLUMN_LINES:
        return None
    left, right = min(box.x0 for box in boxes), max(box.x1 for box in boxes)
    low, high = (left + share * (right - left) for share in _GUTTER_RANGE)
    edges = sorted({box.x1 for box in boxes if low <= box.x1 <= high})
    best: tuple[int, float, float] | None = None
    for edge in edges:
        following = [box.x0 for box in boxes if box.x0 > edge]
        if not following:
            continue
        x = (edge + min(following)) / 2
        crossing = sum(box.x0 < x < box.x1 for box in boxes)
        candidate = (crossing, edge - min(following), x)
        if best is None or candidate < best:
            best = candidate
    if best is None or best[0] > len(boxes) / 3:
        return None
    x = best[2]
    sides = [box for box in boxes if box.x1 <= x], [box for box in boxes if box.x0 >= x]
    return x if all(_in_columns(side) for side in sides) else None


def _in_columns(boxes: Sequence[_Box]) -> bool:
    return _is_prose(boxes) or _gutter(boxes) is not None


def _is_prose(column: Sequence[_Box]) -> bool:
    if len(column) < _COLUMN_LINES:
        return False
    width = max(box.x1 for box in column) - min(box.x0 for box in column)
    typical = float(np.median([box.x1 - box.x0 for box in column]))
    height = float(np.median([box.height for box in column]))
    return typical >= _PROSE_FILL * width and typical >= _PROSE_ASPECT * height


def _rows(boxes: Sequence[_Box]) -> list[list[_Box]]:
    rows: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if rows and _beside(rows[-1], box):
            rows[-1].append(box)
        else:
            rows.append([box])
    return [sorted(row, key=lambda box: box.x0) for row in rows]


def _beside(row: Sequence[_Box], box: _Box) -> bool:
    middle = sum(other.middle for other in row) / len(row)
    height = min(box.height, *(other.height for other in row), box.height)
    return abs(box.middle - middle) < _SAME_ROW * height
