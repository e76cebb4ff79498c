"""Tiles of tall and wide pages, and their lines put together again."""

from itertools import pairwise

import numpy as np
import pytest

from worker.engines.base import Pixels
from worker.engines.lines import Quads
from worker.engines.tiles import distinct, pad, tiles, whole_lines


def blank(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 255, np.uint8)


def quads(*boxes: tuple[float, float, float, float]) -> Quads:
    return np.array([[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in boxes], dtype=np.float64)


@pytest.mark.parametrize("size", [(1654, 2339), (2000, 7000), (300, 1500), (1500, 40), (1, 1)])
def test_a_page_of_ordinary_shape_or_small_size_is_one_tile(size: tuple[int, int]) -> None:
    assert tiles(blank(*size)) == [(0, 0, *size)]


@pytest.mark.parametrize("height", [1601, 3000, 20_000])
def test_the_tiles_of_a_tall_page_cover_it_and_overlap(height: int) -> None:
    parts = tiles(blank(300, height))
    assert parts[0][1] == 0
    assert parts[-1][3] == height
    for (_, _, _, bottom), (_, top, _, _) in pairwise(parts):
        assert bottom - top >= 150


def test_a_wide_strip_is_cut_between_its_words() -> None:
    strip = blank(5000, 40)
    # Words of 300 pixels with 30 between them, striped so that every column of a word has ink.
    for start in range(0, 5000, 330):
        strip[5:35:2, start : start + 300] = 0
    parts = tiles(strip)
    assert [part[0] for part in parts[1:]] == [part[2] for part in parts[:-1]]
    assert len(parts) > 2
    for left, *_ in parts[1:]:
        assert (strip[:, left] == 255).all()


def test_lines_that_a_cut_goes_through_are_left_to_the_neighbouring_tile() -> None:
    lines = quads((0, 0, 50, 15), (0, 100, 50, 120), (0, 390, 50, 400))
    assert whole_lines(lines, (0, 0, 300, 400), 1000) == [0, 1]
    assert whole_lines(lines, (0, 300, 300, 700), 1000) == [1]
    assert whole_lines(lines, (0, 600, 300, 1000), 1000) == [1, 2]


def test_of_two_readings_of_one_line_the_better_stays() -> None:
    lines = quads((0, 0, 100, 20), (2, 1, 99, 21), (0, 30, 100, 50))
    assert distinct(lines, [0.8, 0.9, 0.7]) == [1, 2]


def test_a_tiny_page_gets_a_margin_of_its_background() -> None:
    page = np.full((10, 200, 3), 40, np.uint8)
    padded, (x, y) = pad(page)
    assert (x, padded.shape) == (0, (64, 200, 3))
    assert (padded == 40).all()
    assert (padded[y : y + 10] == page).all()
