"""Loops are found and trimmed, the cells of tables are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs.tails import loops, most_repeats, trim

PROSE = "".join(f"line {i} of the page, with words of its own. " for i in range(120))
"""Long enough for both rules."""


@pytest.mark.parametrize(
    "unit", ["a", "ab ", "the same words\n", "重复", "(1,2),(3,4)", "".join(map(chr, range(0x4E00, 0x4F00)))]
)
def test_a_unit_eight_times_is_a_loop_and_seven_times_is_none(unit: str) -> None:
    assert loops(PROSE + "#" + unit * 8)
    assert not loops(PROSE + "#" + unit * 7)


def test_what_is_short_or_of_long_units_is_no_loop() -> None:
    assert not loops("ab" * 1999)
    assert loops("ab" * 2000)
    assert not loops(PROSE + ("x" * 257 + "y") * 8)
    assert not loops(PROSE + "\n" * 500)
    assert not loops("")


@given(st.text(min_size=2, max_size=30).filter(lambda unit: any(map(str.isalpha, unit))), st.integers(10, 60))
def test_a_tail_is_trimmed_to_one_of_its_units(unit: str, times: int) -> None:
    text = PROSE + "§" + unit * times
    trimmed = trim(text)
    assert trimmed is not None
    assert text.startswith(trimmed)
    assert len(PROSE) < len(trimmed) <= len(PROSE) + 1 + 2 * len(unit)


def test_nine_times_or_a_short_text_is_left_alone() -> None:
    assert trim(PROSE + "#" + "abc" * 9) is None
    assert trim("abc" * 600) is None
    assert trim(PROSE) is None
    assert trim(PROSE + "_" * 19) is None
    assert trim(" " * 5000) is None


def test_a_tail_cut_inside_its_unit_is_trimmed_too() -> None:
    trimmed = trim(PROSE + "#" + "once more. " * 20 + "once m")
    assert trimmed is not None
    assert trimmed.count("once") <= 2


@pytest.mark.parametrize(
    "unit",
    [
        "<td></td>",
        "<tr><td></td><td></td></tr>\n",
        '<td colspan="2"></td>',
        "| | |\n",
        "|  ",
        "| --- ",
        "<tr><td>0</td><td>-</td></tr>",
        "| 0 | 1.5 |\n",
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_cells_without_words_are_no_loop(unit: str, cut: int) -> None:
    text = PROSE + "<table>" + unit * 400
    text = text[: len(text) - cut]
    assert (loops(text), trim(text)) == (False, None)


@pytest.mark.parametrize("unit", ["<tr><td>the same</td></tr>", "| again | again |\n"])
def test_rows_with_the_same_words_are_a_loop(unit: str) -> None:
    text = PROSE + unit * 12
    assert loops(text)
    assert trim(text) is not None


def test_rows_of_empty_cells_may_be_written_for_longer() -> None:
    limits = [most_repeats(task) for task in ("text", "spotting", "parse", "layout_parse", "table")]
    assert limits == [32, 32, 128, 128, None]
