"""What a result says of its lines: paragraphs, language, blankness."""

import numpy as np
import pytest

from worker.engines.plain import Row, is_blank, language, paragraphs


def row(text: str, y: float, right: float = 500, left: float = 0, parts: int = 1) -> Row:
    return Row(text, parts, left, y, right, y + 20)


def test_full_lines_flow_together_and_a_gap_ends_the_paragraph() -> None:
    rows = [row("It was the best", 0), row("of times.", 30, right=200), row("It was", 100, right=150)]
    assert paragraphs(rows) == "It was the best of times.\n\nIt was"


def test_short_lines_and_amounts_keep_their_line_ends() -> None:
    rows = [row("Bread", 0, right=90), row("Milk 2.00", 30, parts=2), row("Total 3.00", 60, parts=2)]
    assert paragraphs(rows) == "Bread  \nMilk 2.00  \nTotal 3.00"


def test_chinese_lines_join_without_a_space() -> None:
    assert paragraphs([row("古籍查阅须提前两", 0), row("天预约", 30, right=100)]) == "古籍查阅须提前两天预约"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("销售发票 No. 10482 复印纸", "zh"),
        ("Thank you for the visit, please come to us again", "en"),
        ("ありがとうございます", "ja"),
        ("감사합니다 여러분", "ko"),
        ("12.50 3.00", None),
        ("Vielen Dank und auf Wiedersehen", None),
        ("", None),
    ],
)
def test_the_language_is_named_only_when_it_shows(text: str, expected: str | None) -> None:
    assert language(text) == expected


def test_noise_and_shading_are_blank_and_one_word_is_not() -> None:
    noise = np.random.default_rng(1).normal(235, 4, (600, 400, 3)) - np.linspace(0, 60, 400)[None, :, None]
    page = noise.clip(0, 255).astype(np.uint8)
    assert is_blank(page)
    page[300:312:2, 100:160:3] = 30
    assert not is_blank(page)
