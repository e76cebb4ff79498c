"""Lines and boxes from every shape of a spotting answer, whatever the text looks like."""

import json
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.outputs import spotting
from worker.outputs.json_text import NotJsonError
from worker.outputs.spotting import parse, to_pixels

Line = tuple[str, tuple[int, int, int, int]]
Shape = Callable[[Sequence[Line]], str]


def corners(box: tuple[int, int, int, int]) -> str:
    return "({},{}),({},{})".format(*box)


def quad(box: tuple[int, int, int, int]) -> str:
    x0, y0, x1, y1 = box
    return f"({x0},{y0}),({x1},{y0}),({x1},{y1}),({x0},{y1})"


def run(lines: Sequence[Line]) -> str:
    return "".join(text + corners(box) for text, box in lines)


def run_of_quads(lines: Sequence[Line]) -> str:
    return "".join(text + quad(box) for text, box in lines)


def ref_quad(lines: Sequence[Line]) -> str:
    return "".join(f"<ref>{text}</ref><quad>{corners(box)}</quad>" for text, box in lines)


def ref_quad_of_four(lines: Sequence[Line]) -> str:
    return "\n".join(f"<ref>{text}</ref><quad>{quad(box)}</quad>" for text, box in lines)


def positions(lines: Sequence[Line]) -> str:
    return "".join(
        f"<quad>{''.join(f'<pos_{n}>' for n in box)}</quad><ref>{text}</ref>" for text, box in lines
    )


def as_json(lines: Sequence[Line]) -> str:
    return json.dumps([{"box": list(box), "text": text} for text, box in lines], ensure_ascii=False)


def fenced_json(lines: Sequence[Line]) -> str:
    items = [{"bbox": list(box), "text": text} for text, box in lines]
    return f"```json\n{json.dumps(items, indent=2)}\n```"


def layout_meta(lines: Sequence[Line]) -> str:
    return "".join(
        f"{text}<hy-meta><layout>paragraph</layout><poly>{quad(box)}</poly></hy-meta>" for text, box in lines
    )


RUNS: tuple[Shape, ...] = (run, run_of_quads)
OTHERS: tuple[Shape, ...] = (ref_quad, ref_quad_of_four, positions, as_json, fenced_json, layout_meta)
NASTY = (
    "(",
    ")",
    ",",
    "(12,34)",
    "(1, 2)",
    "(小写)",
    "(2024,1999),(3000,4000)",
    "<ref>",
    "</ref>",
    "<quad>",
    '"',
    "'",
)
MORE = (
    "\\",
    "[",
    "]",
    "{",
    "}",
    "<td>",
    "<pos_3>",
    "没有文字",
    "\n",
    "金额",
    "LAMAR",
    "é",
    "🙂",
    " ",
    "12,34",
    "text",
)
texts = (
    st.lists(st.sampled_from(NASTY + MORE) | st.text(max_size=5), min_size=1, max_size=8)
    .map("".join)
    .map(str.strip)
    .filter(bool)
)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    return x0, y0, draw(st.integers(x0 + 1, 1000)), draw(st.integers(y0 + 1, 1000))


lines_of = st.lists(st.tuples(texts, boxes()), min_size=1, max_size=6)
_POINT = r"\(\s*\d+\s*,\s*\d+\s*\)"


def tellable(text: str) -> bool:
    """In a run nothing parts the text from a box: two points in a row are one, as is a comma after the last."""
    inside = re.sub(rf"{_POINT}(?:,{_POINT})+", lambda m: "" if "3000,4000" in m[0] else m[0], text)
    return (
        not re.search(rf"{_POINT}\s*,\s*{_POINT}", inside)
        and not re.match(r"\s*,", text)
        and not re.search(r"\)\s*,\Z", text)
        and not text.lower().startswith(("[", "{"))
        and "<quad>" not in text
    )


tellable_lines = st.lists(st.tuples(texts.filter(tellable), boxes()), min_size=1, max_size=6)


def texts_and_boxes(answer: str) -> list[Line]:
    spotted = parse(answer)
    assert spotted is not None
    return [(piece.text, tuple(map(int, piece.box))) for piece in spotted.found if piece.box]  # type: ignore[misc]


@pytest.mark.parametrize("shape", RUNS)
@given(lines=tellable_lines)
@example(lines=[("ATLANTA (AP)", (12, 34, 56, 78)), ("金额(小写) Second", (1, 2, 3, 4))])
@example(lines=[("P(1,2)", (10, 20, 30, 40))])
@example(lines=[("1920x1080 (2024,1999),(3000,4000)", (10, 20, 30, 40))])
def test_a_run_is_read_as_it_was_written(shape: Shape, lines: list[Line]) -> None:
    assert texts_and_boxes(shape(lines)) == lines


@pytest.mark.parametrize("shape", OTHERS)
@given(lines=lines_of)
@example(lines=[("points (1,2),(3,4) and (5,6)", (12, 34, 56, 78))])
@example(lines=[('she said "text": "x"', (12, 34, 56, 78)), ("}", (1, 2, 3, 4))])
def test_a_tagged_answer_is_read_as_it_was_written(shape: Shape, lines: list[Line]) -> None:
    assert texts_and_boxes(shape(lines)) == lines


@pytest.mark.parametrize("shape", [*RUNS, ref_quad, positions, layout_meta])
@given(lines=tellable_lines)
def test_spans_are_where_the_text_stands(shape: Shape, lines: list[Line]) -> None:
    answer = shape(lines)
    spotted = parse(answer)
    assert spotted is not None
    assert [answer[slice(*piece.span)] for piece in spotted.found if piece.span] == [
        text for text, _ in lines
    ]


def test_spans_of_json_are_inside_the_quotes() -> None:
    answer = '[{"box": [1, 2, 3, 4], "text": "a\\"b"}, {"text": "c", "bbox": [1, 2, 3, 4]}]'
    spotted = parse(answer)
    assert spotted is not None
    assert [answer[slice(*piece.span)] for piece in spotted.found if piece.span] == ['a\\"b', "c"]


def test_the_authors_own_example() -> None:
    answer = "顺利上岸(231,392),(764,632)LAMAR(446,850),(559,878)"
    assert texts_and_boxes(answer) == [("顺利上岸", (231, 392, 764, 632)), ("LAMAR", (446, 850, 559, 878))]


def test_a_point_and_a_comma_before_the_box_belong_to_the_text() -> None:
    assert texts_and_boxes("through P(1,2),(10,20),(30,40)") == [("through P(1,2),", (10, 20, 30, 40))]


def test_a_second_box_for_one_text_is_left_out() -> None:
    assert texts_and_boxes("Hello(1,2),(3,4),(5,6),(7,8)Next(9,9),(10,10)") == [
        ("Hello", (1, 2, 3, 4)),
        ("Next", (9, 9, 10, 10)),
    ]


def test_text_behind_the_last_box_is_kept_without_one() -> None:
    for answer in ("one(1,2),(3,4)two", "<ref>one</ref><quad>(1,2),(3,4)</quad>two"):
        spotted = parse(answer)
        assert spotted is not None
        assert [(piece.text, piece.box) for piece in spotted.found] == [("one", (1, 2, 3, 4)), ("two", None)]


def test_unreadable_coordinates_cost_the_box_not_the_text() -> None:
    for answer in (
        "<ref>a</ref><quad>(1,2),(3</quad><ref>b</ref><quad>(1,2),(3,4)</quad>",
        "<quad><pos_1><pos_2></quad><ref>a</ref><quad><pos_1><pos_2><pos_3><pos_4></quad><ref>b</ref>",
        '[{"box": [1, 2], "text": "a"}, {"box": [1, 2, 3, 4], "text": "b"}]',
    ):
        spotted = parse(answer)
        assert spotted is not None
        assert [(piece.text, piece.box) for piece in spotted.found] == [("a", None), ("b", (1, 2, 3, 4))]


@pytest.mark.parametrize(
    "box", ["[3, 4, 1, 2]", '"(3,4),(1,2)"', "[[1, 2], [3, 2], [3, 4], [1, 4]]", "[1.0, 2, 3, 2, 3, 4, 1, 4]"]
)
def test_every_way_to_write_a_box_in_json(box: str) -> None:
    assert texts_and_boxes(f'[{{"bbox": {box}, "text": "a"}}]') == [("a", (1, 2, 3, 4))]


def test_json_cut_off_in_its_last_entry_keeps_the_others_and_is_marked() -> None:
    spotted = parse('[{"box": [1, 2, 3, 4], "text": "a"}, {"box": [5, 6, 7, 8], "te')
    assert spotted is not None
    assert ([piece.text for piece in spotted.found], spotted.repaired) == (["a"], True)


@pytest.mark.parametrize(
    "answer",
    [
        '[{"box": [1, 2, 3, 4], "text": "a"}, {"box": [1, 2, 3, 4], "text": "b "c" d"}, {"box": [5, 6',
        '[{"box": [1, 2, 3, 4], "text": "a "b" c"}, {"box": [5, 6, 7, 8], "text": "d"}]',
        '[{"box": [1, 2, 3, 4], "te',
        '[{"box": [1, 2, 3, 4], "text": "a"}, 7]',
    ],
)
def test_json_that_lost_more_is_refused(answer: str) -> None:
    with pytest.raises(NotJsonError):
        parse(answer)


def test_json_without_lines_is_no_error() -> None:
    assert parse("```json\n[]\n```") == spotting.Spotted([], repaired=True)
    assert texts_and_boxes("[](1,2),(3,4)") == [("[]", (1, 2, 3, 4))]


@pytest.mark.parametrize("answer", ["just words", "f(x,y) = (1,2)", "", "(1,2)", "(2000,1),(1,3000)"])
def test_an_answer_without_boxes_has_no_shape(answer: str) -> None:
    assert parse(answer) is None


def test_layout_labels() -> None:
    answer = (
        "Title<hy-meta><layout>section_title</layout><quad>(1,2),(3,2),(3,4),(1,4)</quad></hy-meta>"
        "<table><tr><td>1</td></tr></table><hy-meta><layout>table</layout><poly>(1,2),(3,2),(3,4),(1,4)</poly></hy-meta>"
    )
    as_json = '[{"layout_type": "figure", "bbox": "(1,2),(3,2),(3,4),(1,4)"}]'
    both = [spotting.layout(answer), spotting.layout(as_json)]
    assert [[(p.text, p.label) for p in spotted.found] for spotted in both if spotted] == [
        [("Title", "section_title"), ("<table><tr><td>1</td></tr></table>", "table")],
        [("", "figure")],
    ]
    assert spotting.layout("# plain Markdown (1,2),(3,4)") is None


@given(boxes(), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_land_on_their_pixels(box: tuple[int, int, int, int], width: int, height: int) -> None:
    x0, y0, x1, y1 = to_pixels(box, width, height)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    for pixel, number, size in (
        (x0, box[0], width),
        (y0, box[1], height),
        (x1, box[2], width),
        (y1, box[3], height),
    ):
        assert abs(pixel - number * size / 1000) <= (0.5 if size >= 1000 else 1.5)


def test_boxes_out_of_the_page_are_clamped_and_empty_ones_widened() -> None:
    assert to_pixels((-5, 990, 2000, 1500), 200, 100) == (0, 99, 200, 100)
    assert to_pixels((500, 1000, 500, 1000), 200, 100) == (100, 99, 101, 100)
    assert to_pixels((231, 392, 764, 632), 1654, 2339) == (382, 917, 1264, 1478)
