"""From raw text to results and errors, task by task."""

import json
import math
from typing import Any

import numpy as np
import pytest

from ocrfleet.catalogue import TASKS, OutputKind, Parameters
from ocrfleet.errors import EscalateError, OutputInvalid, OutputTruncated, RepetitionLoop
from worker.engines.base import PageRequest, PageResult, Pixels, Region
from worker.outputs.generated import Generated
from worker.outputs.interpret import interpret

WHITE: Pixels = np.full((500, 400, 3), 250, np.uint8)
PAGE: Pixels = np.random.default_rng(0).integers(0, 255, (500, 400, 3), np.uint8)
PROSE = "".join(f"line {i} of the page, with words of its own. " for i in range(120))
META = "<hy-meta><layout>{}</layout><poly>(0,0),(500,0),(500,100),(0,100)</poly></hy-meta>"
OF_KIND = {kind: [name for name, task in TASKS.items() if task.output is kind] for kind in OutputKind}


def read(
    task: str, text: str, *, pixels: Pixels | None = PAGE, options: dict[str, Any] | None = None, **raw: Any
) -> PageResult:
    request = PageRequest("1", task, pixels, parameters=Parameters(max_tokens=100), options=options or {})
    return interpret(request, Generated(text, **{"finish_reason": "stop", **raw}))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_every_task_refuses_what_was_cut_and_keeps_it(task: str, reason: str) -> None:
    error: type[EscalateError] = OutputTruncated if reason == "length" else RepetitionLoop
    with pytest.raises(error) as caught:
        read(task, "half an ans", finish_reason=reason, output_tokens=100)
    assert caught.value.extra["partial"] == "half an ans"
    assert caught.value.extra["actual"] == 100
    if reason == "length":
        assert caught.value.extra["limit"] == 100
        assert caught.value.detail == "the output reached the limit of tokens: limit 100, actual 100"


def test_a_loop_that_met_the_limit_is_a_loop() -> None:
    with pytest.raises(RepetitionLoop) as caught:
        read("text", PROSE + "again " * 9, finish_reason="length")
    assert caught.value.extra["partial"].endswith("again again ")
    with pytest.raises(RepetitionLoop):
        read("text", PROSE[:2500] + "again " * 12, finish_reason="length")
    with pytest.raises(OutputTruncated):
        read("text", PROSE, finish_reason="length")


def test_a_tail_that_ended_by_itself_is_trimmed_and_marked() -> None:
    result = read("text", PROSE + "again " * 40)
    assert result.warnings == ("tail_trimmed",)
    assert len(PROSE) < len(result.text) < len(PROSE) + 12
    assert read("text", PROSE + "again " * 8).warnings == ()


def test_a_trimmed_tail_does_not_count_for_the_confidence() -> None:
    tokens = [(PROSE, math.log(0.4)), *[("again ", 0.0)] * 40]
    result = read("text", "".join(piece for piece, _ in tokens), tokens=tokens)
    assert (result.confidence, result.warnings) == (0.7, ("tail_trimmed",))


def test_a_table_of_empty_cells_stays_whole() -> None:
    table = "<table>" + "<tr><td></td><td></td></tr>" * 200
    result = read("parse", PROSE + table)
    assert (result.markdown, result.warnings) == (PROSE + table, ())


@pytest.mark.parametrize("task", TASKS)
def test_nothing_on_a_blank_page_is_a_success(task: str) -> None:
    result = read(task, " \n", pixels=WHITE)
    assert (result.text, result.markdown, result.fields, result.warnings) == ("", None, None, ("blank_page",))


@pytest.mark.parametrize("task", TASKS)
def test_nothing_on_a_page_that_is_not_blank_is_left_to_the_runner(task: str) -> None:
    for pixels in (PAGE, None):
        result = read(task, "", pixels=pixels)
        assert (result.text, result.markdown, result.fields, result.warnings) == ("", None, None, ())


@pytest.mark.parametrize("said", ["没有文字", "图片中没有文字。", "图中无文字"])
def test_the_model_may_say_that_there_is_no_text(said: str) -> None:
    for task in ("spotting", "text", "parse"):
        result = read(task, said)
        assert (result.text, result.warnings) == ("", ("blank_page",))
        assert result.regions == ([] if task == "spotting" else None)
    assert read("question", said).text == said
    assert read("text", "这里没有文字说明").text == "这里没有文字说明"


def test_spotting_gives_pixels_text_and_the_confidence_of_each_line() -> None:
    pieces = [("中", 0.5), ("文", 0.7), ("(0,0),", 0.9), ("(500,100)", 0.9), ("two(0,200),(1000,300)", 1.0)]
    tokens = [(piece, math.log(p)) for piece, p in pieces]
    result = read("spotting", "".join(piece for piece, _ in pieces), tokens=tokens)
    assert result.regions == [Region("中文", (0, 0, 200, 50), 0.6), Region("two", (0, 100, 400, 150), 1.0)]
    assert (result.text, result.confidence, result.warnings) == ("中文\ntwo", 0.8, ())


def test_a_line_without_a_box_is_in_the_text_alone() -> None:
    result = read("spotting", "one(0,0),(500,100)two")
    assert (result.text, result.regions) == ("one\ntwo", [Region("one", (0, 0, 200, 50))])


def test_spotting_as_json_and_its_repairs() -> None:
    lines = json.dumps([{"box": [0, 0, 500, 100], "text": "one"}])
    assert read("spotting_json", lines).warnings == ()
    cut = read("spotting_json", lines[:-1] + ', {"box": [0, 0')
    assert (cut.regions, cut.warnings) == ([Region("one", (0, 0, 200, 50))], ("json_repaired",))


@pytest.mark.parametrize(
    "answer",
    [
        "just words",
        "(1,2),(3,4)",
        "(1,2),(3,4)\n(5,6),(7,8)",
        '[{"box": [1, 2, 3, 4]}]',
        '[{"box": x}]',
        '[{"text": "a"}]',
    ],
)
def test_a_spotting_answer_without_lines_and_boxes_is_invalid(answer: str) -> None:
    with pytest.raises(OutputInvalid) as caught:
        read("spotting", answer)
    assert caught.value.extra["partial"] == answer


def test_no_lines_at_all_is_an_empty_answer() -> None:
    assert read("spotting_json", "[]").text == ""
    assert read("spotting_json", "[]").warnings == ()
    assert read("spotting_json", "[]", pixels=WHITE).warnings == ("blank_page",)


def test_markdown_is_kept_and_told_plain() -> None:
    markdown = "# T\n\n<table><tr><td>a</td><td>b</td></tr></table>\n\n$$x^2$$"
    result = read("parse", markdown)
    assert (result.markdown, result.text) == (markdown, "T\n\na\tb\n\n$$x^2$$")


@pytest.mark.parametrize(
    "answer",
    ["(147,90),(925,415)", "(1,2),(3,4)\n\n(5,6),(7,8)", "<quad>(1,2),(3,4)</quad>", "- (1,2),(3,4);"],
)
def test_nothing_but_coordinates_is_no_document(answer: str) -> None:
    with pytest.raises(OutputInvalid, match="nothing but coordinates"):
        read("parse", answer)


@pytest.mark.parametrize("answer", ["图(147,90),(925,415)", "$(1,2),(3,4)$", "(1,2)", "***"])
def test_coordinates_beside_anything_else_are_kept(answer: str) -> None:
    assert read("parse", answer).markdown == answer


def test_layout_has_labelled_regions_where_it_can_be_read() -> None:
    answer = f"# T{META.format('title')}body{META.format('paragraph')}"
    regions = [
        Region("# T", (0, 0, 200, 50), None, "title"),
        Region("body", (0, 0, 200, 50), None, "paragraph"),
    ]
    assert read("layout", answer).regions == regions
    both = read("layout_parse", answer)
    assert (both.markdown, both.text, both.regions) == ("# T\n\nbody", "# T\nbody", regions)
    assert read("layout", "a title, then text").regions is None
    assert read("layout", "a title, then text").text == "a title, then text"


def test_fields_come_as_values_and_as_text() -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}}
    result = read("extract", ' {"total": 3}', options={"output_schema": schema})
    assert (result.fields, result.text, result.warnings) == ({"total": 3}, '{"total": 3}', ())
    mended = read("extract", "{'total': 3,}", options={"output_schema": schema})
    assert (mended.fields, mended.text, mended.warnings) == ({"total": 3}, '{"total": 3}', ("json_repaired",))
    with pytest.raises(OutputInvalid, match="at /total: expected type") as caught:
        read("extract", '{"total": "3"}', options={"output_schema": schema})
    assert caught.value.extra["pointer"] == "/total"
    assert caught.value.extra["partial"] == '{"total": "3"}'


def test_a_page_the_model_was_not_sure_of_is_marked() -> None:
    result = read("text", "ab", tokens=[("a", math.log(0.4)), ("b", math.log(0.5))])
    assert (result.confidence, result.warnings) == (0.45, ("low_confidence",))
    assert read("text", "ab").confidence is None


def test_language_usage_and_finish_reason() -> None:
    result = read("text", "阅览室开放通知", prompt_tokens=9, output_tokens=7, image_tokens=5)
    assert result.language == "zh"
    assert result.usage == {"prompt_tokens": 9, "output_tokens": 7, "image_tokens": 5}
    assert result.finish_reason == "stop"


@pytest.mark.parametrize("task", OF_KIND[OutputKind.TEXT])
def test_plain_tasks_keep_their_text(task: str) -> None:
    result = read(task, "a (1,2),(3,4)\n**b** \n")
    assert (result.text, result.markdown, result.regions) == ("a (1,2),(3,4)\n**b**", None, None)
