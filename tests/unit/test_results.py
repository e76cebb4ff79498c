"""The body of a result line, and what is taken out of a text before it."""

from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from fleet_builders import claimed_page

from ocrfleet.catalogue import Parameters
from worker import results
from worker.decode import Loaded
from worker.engines.base import EngineInfo, PageResult, Region
from worker.escalation import Plan

ENGINE = EngineInfo("null", "a model", "7", ("text",), 1)
PLAN = Plan("text", Parameters())
LOADED = Loaded(np.zeros((200, 100, 3), np.uint8), ("low_resolution",), "ab" * 32)


def body(
    result: PageResult, loaded: Loaded | None = LOADED, plan: Plan = PLAN, **page: Any
) -> dict[str, Any]:
    claimed = claimed_page(**page)
    timings = {"queue": 12, "wait": 3, "fetch": 8, "infer": 640}
    written, warnings = results.body(claimed, plan, ENGINE, loaded, result, timings)
    members = orjson.loads(written)
    assert members["warnings"] == list(warnings)
    return members


def test_a_body_has_the_members_of_a_result_line() -> None:
    region = Region("文字", (1, 2, 3, 4), 0.98)
    given = body(
        PageResult(
            "文字",
            regions=[region],
            language="zh",
            confidence=0.9,
            usage={"output_tokens": 2},
            timings_ms={"preprocess": 4},
        )
    )
    assert given == {
        "text": "文字",
        "markdown": None,
        "regions": [{"text": "文字", "box": [1, 2, 3, 4], "confidence": 0.98}],
        "fields": None,
        "language": "zh",
        "confidence": 0.9,
        "warnings": ["low_resolution"],
        "usage": {"output_tokens": 2},
        "timings_ms": {"queue": 12, "wait": 3, "fetch": 8, "infer": 640, "preprocess": 4},
        "image": {"width": 100, "height": 200, "sha256": "ab" * 32, "rotation": 0},
        "engine": "null",
        "model": "a model",
        "revision": "7",
        "task": "text",
        "task_version": 1,
        "cache": "miss",
    }


@pytest.mark.parametrize(
    ("rotation", "width", "height"), [(0, 100, 200), (90, 200, 100), (180, 100, 200), (270, 200, 100)]
)
def test_the_image_has_the_size_of_the_upright_page(rotation: int, width: int, height: int) -> None:
    image = body(PageResult("x", rotation=rotation))["image"]
    assert (image["width"], image["height"]) == (width, height)


@pytest.mark.parametrize("ugly", ["a\x00b", "a\ud800b", "a\udc80\x00b", "\x00a\x00b\x00"])
def test_characters_that_no_record_takes_are_removed_with_a_warning(ugly: str) -> None:
    region = Region(ugly, (0, 0, 1, 1))
    result = PageResult(
        ugly, markdown=ugly, regions=[region], fields={ugly: [{"x": ugly}]}, warnings=("one",)
    )
    given = body(result)
    assert given["text"] == given["markdown"] == given["regions"][0]["text"] == "ab"
    assert given["fields"] == {"ab": [{"x": "ab"}]}
    assert given["warnings"] == ["low_resolution", "one", "control_characters_removed"]


@pytest.mark.parametrize("text", ["plain", "\\u0000", "\\\\u0000 \\ud800", "🙂 \u2028", "\x01\x1f\x7f"])
def test_every_other_text_is_kept_as_it_is(text: str) -> None:
    given = body(PageResult(text))
    assert given["text"] == text
    assert given["warnings"] == ["low_resolution"]


def test_a_page_whose_pixels_nobody_read_has_no_image() -> None:
    given = body(PageResult("x"), None)
    assert given["image"] is None


def test_a_result_that_was_kept_has_its_own_times_and_says_so() -> None:
    kept, _ = results.body(claimed_page(), PLAN, ENGINE, LOADED, PageResult("文字 🙂"), {"infer": 640})
    given = orjson.loads(results.recalled(kept, {"queue": 1, "fetch": 2}))
    assert given == {**orjson.loads(kept), "timings_ms": {"queue": 1, "fetch": 2}, "cache": "hit"}
    assert given["text"] == "文字 🙂"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        body(PageResult("x", fields={"what": {UUID(int=1), 7}}))


def test_a_region_of_a_layout_has_its_label() -> None:
    given = body(PageResult("x", regions=[Region("x", (0, 0, 1, 1), label="title")]))
    assert given["regions"][0]["label"] == "title"


def test_a_later_attempt_names_its_parameters_and_plain_text_stands_for_markdown() -> None:
    plan = Plan("text", Parameters(temperature=0.3))
    given = body(PageResult("x"), plan=plan, task="parse", failures=3)
    assert (given["parameters"]["task"], given["parameters"]["temperature"]) == ("text", 0.3)
    assert (given["task"], given["markdown"]) == ("parse", "x")
    assert given["warnings"] == ["low_resolution", "plain_paragraphs"]


def test_of_an_attempt_that_failed_the_end_of_its_output_is_kept() -> None:
    kept = orjson.loads(results.parameters(PLAN, "a" * results.MAX_PARTIAL + "\x00end"))
    assert kept["partial"].endswith("aend")
    assert len(kept["partial"]) == results.MAX_PARTIAL - 1
    assert "partial" not in orjson.loads(results.parameters(PLAN, None))
