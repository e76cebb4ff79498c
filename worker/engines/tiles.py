"""Pages far from the shape of a sheet are read in tiles, whose lines are then put together without doubles."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.base import Pixels
from worker.engines.lines import Quads

MAX_ASPECT = 4
_TILE = 1600
"""Pixels of a tile's long side, at least; the detector sees that many without scaling them down."""
_OVERLAP = 0.125
_MIN_SIDE = 64
_CUT = 3
"""A line that ends this near to a cut was cut and stands whole in the neighbouring tile."""

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1."""


def tiles(pixels: Pixels) -> list[Tile]:
    """Tall pages overlap by an eighth; wide ones are cut at the emptiest columns, for there each cut is in a line."""
    height, width = pixels.shape[:2]
    short, long = sorted((height, width))
    step = max(_TILE, 2 * short)
    if long <= MAX_ASPECT * short or long <= step:
        return [(0, 0, width, height)]
    if height > width:
        return [(0, top, width, bottom) for top, bottom in _overlapping(height, step)]
    cuts = _gaps(pixels, step)
    edges: list[int] = [0, *cuts, width]
    return [(left, 0, right, height) for left, right in pairwise(edges)]


def _overlapping(length: int, step: int) -> list[tuple[int, int]]:
    stride = int(step * (1 - _OVERLAP))
    count = -(-(length - step) // stride) + 1
    starts = [round(i * (length - step) / (count - 1)) for i in range(count)]
    return [(start, start + step) for start in starts]


def _gaps(pixels: Pixels, step: int) -> list[int]:
    """In every window, the middle of the widest run of its emptiest columns."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    ink = np.abs(np.diff(grey.astype(np.int16), axis=0)).mean(axis=0)
    cuts: list[int] = []
    position = 0
    while pixels.shape[1] - position > step:
        start = position + step // 2
        window = ink[start : position + step]
        empty = np.concatenate(([0], (window <= window.min() + 1).astype(np.int8), [0]))
        edges = np.flatnonzero(np.diff(empty))
        runs = edges[1::2] - edges[::2]
        widest = int(runs.argmax())
        position = start + int(edges[2 * widest] + edges[2 * widest + 1]) // 2
        cuts.append(position)
    return cuts


def whole_lines(quads: Quads, tile: Tile, height: int) -> list[int]:
    """Indices of the lines (in pixels of the tile) that no cut of a tall page goes through."""
    tops, bottoms = quads[:, :, 1].min(axis=1), quads[:, :, 1].max(axis=1)
    _, top, _, bottom = tile
    cut = (tops <= _CUT) & (top > 0) | (bottoms >= bottom - top - _CUT) & (bottom < height)
    return [int(i) for i in np.flatnonzero(~cut)]


def distinct(quads: Quads, scores: Sequence[float]) -> list[int]:
    """Indices of the lines, without the worse read one of two that cover each other by half."""
    low, high = quads.min(axis=1), quads.max(axis=1)
    areas: NDArray[np.float64] = np.prod(high - low, axis=1)
    kept: list[int] = []
    for i in sorted(range(len(quads)), key=lambda i: -scores[i]):
        sides = np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept])
        shared = np.prod(np.clip(sides, 0, None), axis=1)
        if not (shared > np.minimum(areas[i], areas[kept]) / 2).any():
            kept.append(i)
    return sorted(kept)


def pad(pixels: Pixels) -> tuple[Pixels, tuple[int, int]]:
    """Tiny pages get a margin of their own background; the offset (x, y) of the page within it is returned."""
    height, width = pixels.shape[:2]
    x, y = (max(0, -(-(_MIN_SIDE - side) // 2)) for side in (width, height))
    if not x and not y:
        return pixels, (0, 0)
    colour: list[float] = np.median(pixels.reshape(-1, 3), axis=0).tolist()
    padded = cv2.copyMakeBorder(pixels, y, y, x, x, cv2.BORDER_CONSTANT, value=colour)
    return np.ascontiguousarray(padded, dtype=np.uint8), (x, y)
