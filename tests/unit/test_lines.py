"""The reading order of lines, as people read receipts, articles and photographs."""

import numpy as np
import pytest

from worker.engines.lines import Quads, reading_order


def quad(x: float, y: float, width: float, height: float = 20) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def order(quads: list[list[list[float]]]) -> list[list[int]]:
    return reading_order(np.array(quads, dtype=np.float64))


def warped(quads: Quads, slope_top: float, slope_bottom: float) -> Quads:
    """As a camera sees it that is not held straight: the slope changes down the page."""
    y = quads[:, :, 1]
    share = (y - y.min()) / max(1.0, float(np.ptp(y)))
    slope = slope_top + (slope_bottom - slope_top) * share
    return np.stack([quads[:, :, 0], y + slope * quads[:, :, 0]], axis=2)


def receipt() -> Quads:
    """Twelve rows of a label and its amount; row i is the lines 2i and 2i + 1."""
    rows = [(quad(10, 40 * i, 180 + 10 * (i % 3)), quad(420, 40 * i + 3, 70)) for i in range(12)]
    return np.array([part for row in rows for part in row], dtype=np.float64)


def test_a_page_without_lines_has_no_rows() -> None:
    assert reading_order(np.empty((0, 4, 2))) == []


def test_a_label_and_its_amount_are_one_row() -> None:
    assert reading_order(receipt()) == [[2 * i, 2 * i + 1] for i in range(12)]


@pytest.mark.parametrize("slopes", [(0.1, 0.1), (-0.1, -0.1), (0.12, 0.02), (-0.08, 0.08)])
def test_a_receipt_photographed_askew_keeps_its_rows(slopes: tuple[float, float]) -> None:
    expected = [[2 * i, 2 * i + 1] for i in range(12)]
    assert reading_order(warped(receipt(), *slopes)) == expected


def test_the_order_in_which_lines_were_found_does_not_matter() -> None:
    lines = receipt()
    shuffled = np.random.default_rng(7).permutation(len(lines))
    rows = reading_order(lines[shuffled])
    assert [[int(shuffled[i]) for i in row] for row in rows] == reading_order(lines)


def test_two_columns_of_prose_are_read_one_after_the_other() -> None:
    left = [quad(0, 100 + 30 * i, 380 + 5 * (i % 3)) for i in range(8)]
    right = [quad(420, 103 + 30 * i, 380 - 7 * (i % 2)) for i in range(8)]
    assert order(left + right) == [[i] for i in range(16)]


def test_a_title_and_a_line_across_both_columns_keep_their_place() -> None:
    lines = [quad(100, 0, 600, 40)]
    lines += [quad(0, 100 + 30 * i, 380) for i in range(5)]
    lines += [quad(420, 100 + 30 * i, 380) for i in range(5)]
    lines += [quad(50, 280, 700)]
    lines += [quad(0, 340 + 30 * i, 380) for i in range(5)]
    lines += [quad(420, 340 + 30 * i, 380) for i in range(5)]
    assert order(lines) == [[i] for i in range(22)]


def test_three_columns_are_read_from_left_to_right() -> None:
    lines = [quad(420 * column, 30 * i, 380) for column in range(3) for i in range(6)]
    assert order(lines) == [[i] for i in range(18)]


def test_the_cells_of_a_table_are_read_by_row() -> None:
    cells = [quad(150 * column, 40 * row, 90) for row in range(8) for column in range(5)]
    assert order(cells) == [[5 * row + column for column in range(5)] for row in range(8)]


def test_a_stamp_along_the_margin_does_not_get_between_the_lines() -> None:
    text = [quad(100, 40 * i, 500) for i in range(8)]
    stamp = quad(20, 30, 24, 240)
    assert order([stamp, *text]) == [[i] for i in range(1, 9)] + [[0]]
