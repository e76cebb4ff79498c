"""Lines of a batch's input file, and those of what it writes."""

import base64
from typing import Any

import orjson
import pytest

from ocrfleet.catalogue import TASKS, build_prompt
from ocrfleet.store.batches import Page
from producer import chat, completions
from producer.chat import LineFault

IMAGE = "data:image/png;base64," + base64.b64encode(b"pixels").decode()


def members(text: str | None = None, url: str = IMAGE, **body: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    if text is not None:
        parts.append({"type": "text", "text": text})
    return {"body": {"model": "m", "messages": [{"role": "user", "content": parts}], **body}}


def parse(given: dict[str, Any]) -> chat.Request:
    return chat.parse("c", given, max_bytes=100)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if not task.needs])
def test_a_prompt_of_the_catalogue_is_its_task(task: str, language: str) -> None:
    prompt = build_prompt(task, None, {"prompt_language": language})
    wanted = parse(members(f" {prompt}\n")).wanted
    assert (wanted.task, wanted.prompt) == (task, None)
    assert build_prompt(task, None, orjson.loads(wanted.options)) == prompt


def test_another_prompt_is_a_free_one_and_none_is_text() -> None:
    assert parse(members("Who signed?")).wanted == chat.Wanted("prompt", "Who signed?", "{}")
    assert parse(members()).wanted.task == "text"


def test_parameters_go_on_and_equal_ones_are_equal() -> None:
    one = parse(members("x", max_tokens=9, temperature=0.5)).wanted
    other = parse(members("x", temperature=0.5, max_completion_tokens=9)).wanted
    assert one == other
    assert orjson.loads(one.options) == {"parameters": {"max_tokens": 9, "temperature": 0.5}}
    assert parse(members("x", max_tokens=10)).wanted != one


def test_images_are_data_or_objects() -> None:
    assert parse(members()).image == chat.Inline(b"pixels", ".png")
    assert parse(members(url=IMAGE.replace("png", "x-odd"))).image == chat.Inline(b"pixels", "")
    assert parse(members(url="s3://scans/a/b c.png")).image == ("scans", "a/b c.png")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (members(url="https://example.com/a.png"), "invalid_image_url"),
        (members(url="http://169.254.169.254/"), "invalid_image_url"),
        (members(url="file:///etc/passwd"), "invalid_image_url"),
        (members(url="s3://scans"), "invalid_image_url"),
        (members(url="s3://a/../b"), "invalid_image_url"),
        (members(url="data:image/png,abc"), "invalid_image_url"),
        (members(url="data:image/png;base64,%%%"), "invalid_base64_image"),
        (members(url="data:image/png;base64,"), "invalid_image_url"),
        (members(url="data:image/png;base64," + "A" * 200), "image_too_large"),
        (members("a\0b"), "invalid_request"),
        (members(max_tokens=0), "invalid_request"),
        (members(max_tokens=True), "invalid_request"),
        (members(max_tokens="9"), "invalid_request"),
        (members(temperature=float("nan")), "invalid_request"),
        (members(n=2), "unsupported_parameter"),
        (members(stream=True), "unsupported_parameter"),
        ({"body": {"messages": [{"role": "user", "content": "no image"}]}}, "invalid_request"),
        ({"body": {"messages": [{"role": "system", "content": "x"}]}}, "invalid_request"),
        ({"body": {"messages": [{"role": "user", "content": [1]}]}}, "invalid_request"),
        ({"body": {"messages": 5}}, "invalid_request"),
        ({"body": []}, "invalid_request"),
        ({}, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_refused_by_line(given: dict[str, Any], code: str) -> None:
    with pytest.raises(LineFault) as refused:
        parse(given)
    assert (refused.value.code, refused.value.custom_id) == (code, "c")


@pytest.mark.parametrize("value", ["9" * 2**21, [0] * 2**19, 2**60, {"a": "\0" * 2**20}])
def test_what_is_said_of_a_value_is_short_however_long_that_is(value: object) -> None:
    with pytest.raises(LineFault) as refused:
        parse(members(max_tokens=value))
    assert (refused.value.custom_id, len(refused.value.message) < 150) == ("c", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"[]", b"{}", b'{"custom_id":""}', b'{"custom_id":"a"}', b'{"custom_id":"a","method":"GET"}', b"\xff",
        b'{"custom_id":"a","method":"POST","url":"/v1/embeddings"}', b'{"custom_id":"\\u0000","method":"POST"}',
    ],
)  # fmt: skip
def test_what_is_no_request_makes_the_file_no_batch(raw: bytes) -> None:
    with pytest.raises(LineFault) as refused:
        chat.custom_id_of(raw)
    assert refused.value.custom_id is None


def page(state: str | None, **body: Any) -> Page:
    return Page(0, "c", state, body)


def test_the_pages_of_a_document_are_one_answer() -> None:
    usage = {"prompt_tokens": 3, "output_tokens": 2}
    pages = [page("succeeded", text="a", model="m", usage=usage), page("succeeded", text="b", usage=usage)]
    answered, raw = completions.line_of("i", "c", "text", pages, "batch_expired")
    line = orjson.loads(raw)
    assert (answered, line["error"], line["response"]["status_code"]) == (True, None, 200)
    body = line["response"]["body"]
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "a\n\nb", "refusal": None}
    assert body["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    assert (line["custom_id"], body["model"]) == ("c", "m")


def test_fields_and_regions_are_told_as_json() -> None:
    _, raw = completions.line_of("i", "c", "extract", [page("succeeded", fields={"a": 1})], "x")
    assert orjson.loads(raw)["response"]["body"]["choices"][0]["message"]["content"] == '{"a":1}'


def test_a_page_that_failed_is_the_answers_error_and_one_that_was_not_read_is_its_own() -> None:
    dead = page("dead", error={"code": "corrupt_file", "detail": "no image"})
    answered, raw = completions.line_of("i", "c", "text", [page("succeeded", text="a"), dead], "x")
    line = orjson.loads(raw)
    assert (answered, line["response"]["status_code"]) == (False, 422)
    assert line["response"]["body"]["error"]["code"] == "corrupt_file"
    for pages in ([], [page(None)]):
        answered, raw = completions.line_of("i", "c", "text", pages, "batch_cancelled")
        line = orjson.loads(raw)
        assert (answered, line["response"], line["error"]["code"]) == (False, None, "batch_cancelled")
