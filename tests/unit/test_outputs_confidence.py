"""Means of token probabilities, and None rather than a figure that nobody can stand by."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs.confidence import Confidence


def log(*pieces: tuple[str, float]) -> list[tuple[str, float]]:
    return [(piece, math.log(p) if p else -math.inf) for piece, p in pieces]


def test_a_region_takes_the_tokens_that_hold_its_characters() -> None:
    text = "ab(1,2),(3,4)cd"
    sure = Confidence(
        text, log(("a", 0.5), ("b(", 0.7), ("1,2),(3,4", 0.1), (")c", 0.9), ("d", 1.0), ("", 0.2))
    )
    assert sure.of((0, 2)) == pytest.approx(0.6)
    assert sure.of((0, 1)) == pytest.approx(0.5)
    assert sure.of((13, 15)) == pytest.approx(0.95)
    assert sure.of((3, 3)) is None
    assert sure.of(None) is None


def test_the_page_takes_all_of_them_up_to_where_it_was_trimmed() -> None:
    sure = Confidence("abcc", log(("a", 0.2), ("b", 0.4), ("c", 1.0), ("c", 1.0), ("<end>", 0.9)))
    assert sure.page() == pytest.approx(0.7)
    assert sure.page(2) == pytest.approx(0.3)


def test_pieces_that_are_not_the_text_count_for_the_page_only() -> None:
    sure = Confidence("中a", log(("\ufffd", 0.5), ("\ufffd", 0.7), ("a", 0.9)))
    assert (sure.page(2), sure.of((0, 1))) == (pytest.approx(0.7), None)


def test_without_tokens_there_is_no_figure() -> None:
    sure = Confidence("abc", ())
    assert (sure.page(3), sure.of((0, 3))) == (None, None)


def test_odd_log_probabilities() -> None:
    assert Confidence("ab", [("a", -math.inf), ("b", 1e-6)]).page(2) == 0.5
    broken = Confidence("ab", [("a", math.nan), ("b", math.log(0.5))])
    assert (broken.page(2), broken.of((0, 1))) == (0.5, None)


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(-20, 0)), min_size=1, max_size=20), st.data())
def test_every_span_is_the_mean_of_the_tokens_that_touch_it(
    tokens: list[tuple[str, float]], data: st.DataObject
) -> None:
    text = "".join(piece for piece, _ in tokens)
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    owners = [i for i, (piece, _) in enumerate(tokens) for _ in piece]
    touched = range(owners[start], owners[stop - 1] + 1)
    expected = sum(math.exp(tokens[i][1]) for i in touched) / len(touched)
    assert Confidence(text, tokens).of((start, stop)) == pytest.approx(expected, abs=1e-4)
