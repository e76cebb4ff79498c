"""`ocrfleet dlq ls` and `show`: what they ask of the API, and what they tell people and programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canned_api import CannedApi, call
from dlq_answers import DETAIL, ITEM, LETTER, LIST
from typer.testing import CliRunner

from ocrfleet.cli import build, letter
from ocrfleet.errors import BY_CODE


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with CannedApi({}) as api:
        yield api


@pytest.mark.parametrize("command", ["ls", "show", "redrive", "redrives", "discard"])
def test_every_command_explains_itself(command: str) -> None:
    arguments = ["dlq", command, "--help"]
    answer = CliRunner().invoke(build(arguments), arguments, prog_name="ocrfleet")
    assert answer.exit_code == 0
    assert answer.output.startswith(f"Usage: ocrfleet dlq {command}")


def test_letters_are_listed_in_a_table_and_as_json_lines(api: CannedApi, tmp_path: Path) -> None:
    api.answers["GET /v1/dead-letters"] = LIST
    status, out, err = call(api, tmp_path, "dlq", "ls")
    first, second = out.splitlines()[1:]
    assert first.split()[:7] == [
        "17", "output_truncated", "s3://scans/b.png", "page", "2", "2", "ocr@gpu-7",
    ]  # fmt: skip
    assert "2026-11-20T09:14:03  The output reached the limit of 8192 tokens. xxx" in first
    assert first.endswith("x…")
    assert second.split() == [
        "18",
        "encrypted_pdf",
        "s3://scans/b.png",
        "2",
        "-",
        "2026-11-20T09:14:03",
        "Locked.",
    ]
    assert (status, err) == (0, "")
    told = call(api, tmp_path, "dlq", "ls", "--json")[1]
    assert [json.loads(line) for line in told.splitlines()] == [LETTER, ITEM]
    status, out, err = call(api, tmp_path, "dlq", "ls", "--limit", "1")
    assert (len(out.splitlines()), err) == (2, "there are more: --limit, or --group-by code\n")


def test_the_list_asks_for_what_the_options_say(api: CannedApi, tmp_path: Path) -> None:
    api.answers["GET /v1/dead-letters"] = LIST
    chosen = ["--job", "j", "--code", "a", "--code", "b", "--id", "7", "--worker", "w", "--revision", "r"]
    assert (
        call(api, tmp_path, "dlq", "ls", *chosen, "--after", "2026-01-01T00:00:00Z", "--before", "x")[0] == 0
    )
    asked = api.asked[0][0].partition("?")[2]
    assert asked == (
        "job_id=j&codes=a&codes=b&page_ids=7&worker=w&revision=r"
        "&created_after=2026-01-01T00%3A00%3A00Z&created_before=x&page_size=51"
    )


def test_letters_are_counted_in_groups(api: CannedApi, tmp_path: Path) -> None:
    example = {"id": "17", "code": "a", "detail": "torn"}
    times = {"newest": "2026-11-20T09:14:03Z", "oldest": "2026-11-20T09:00:00Z"}
    groups = [
        {"key": "gpu-7", "count": 1312, "example": example, **times},
        {"key": None, "count": 2, "example": example, **times},
    ]
    api.answers["GET /v1/dead-letters?all=true&group_by=worker"] = {"data": groups}
    status, out, _ = call(api, tmp_path, "dlq", "ls", "--group-by", "worker")
    assert status == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["gpu-7", "1,312", "2026-11-20T09:14:03", "2026-11-20T09:00:00", "17", "torn"],
        ["-", "2", "2026-11-20T09:14:03", "2026-11-20T09:00:00", "17", "torn"],
    ]
    told = call(api, tmp_path, "dlq", "ls", "--group-by", "worker", "--json")[1]
    assert [json.loads(line) for line in told.splitlines()] == groups


def test_one_letter_is_told_with_every_attempt_and_what_to_do(api: CannedApi, tmp_path: Path) -> None:
    api.answers["GET /v1/dead-letters/17"] = DETAIL
    status, out, _ = call(api, tmp_path, "dlq", "show", "17")
    assert status == 0
    assert out.splitlines() == [
        "letter     17",
        "page       s3://scans/b.png page 2",
        "custom id  inv-18",
        "job        j-1",
        "error      output_truncated: 8192 tokens",
        "           limit=8192",
        "picture    ocrfleet dlq show 17 --thumbnail page.jpg",
        "",
        "attempt 1  2026-11-20T09:14:03, after 41.2 s",
        "  failed      output_truncated: 8192 tokens",
        "  worker      ocr@gpu-7 on cuda:0, Hunyuan abc",
        "  parameters  task=text  temperature=0.0",
        "  timings     queue 12 ms, infer 41,200 ms",
        "  raw output, its end:",
        "    | so it goes",
        "    | \ufffd[31mon and on",
        "",
        "attempt 2  2026-11-20T09:14:03, alone on its worker",
        "  failed      output_truncated: 8192 tokens",
        "  worker      ocr@gpu-7 on cuda:0, Hunyuan abc",
        "  parameters  task=text  temperature=0.0",
        "  timings     queue 12 ms, infer 41,200 ms",
        "",
        "next       run it again with more tokens:",
        "           ocrfleet dlq redrive --id 17 --parameter max_tokens=16384",
    ]
    assert json.loads(call(api, tmp_path, "dlq", "show", "17", "--json")[1]) == DETAIL


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (
            {"state": "succeeded", "redrive_id": "5"},
            "letter     17, no longer dead: succeeded since redrive 5",
        ),
        ({"discarded_at": "2026-11-21T00:00:00Z"}, "letter     17, discarded 2026-11-21T00:00:00"),
    ],
)
def test_a_letter_that_is_none_any_more_says_so_and_asks_for_nothing(
    api: CannedApi, tmp_path: Path, members: dict[str, Any], told: str
) -> None:
    api.answers["GET /v1/dead-letters/17"] = DETAIL | members
    out = call(api, tmp_path, "dlq", "show", "17")[1]
    assert out.splitlines()[0] == told
    assert "next" not in out


def test_the_picture_of_a_page_is_written_to_a_file(api: CannedApi, tmp_path: Path) -> None:
    api.answers |= {"GET /v1/dead-letters/17": DETAIL, "GET /v1/dead-letters/17/thumbnail": b"\xff\xd8small"}
    picture = tmp_path / "page.jpg"
    status, _, err = call(api, tmp_path, "dlq", "show", "17", "--thumbnail", str(picture))
    assert (status, picture.read_bytes(), err) == (0, b"\xff\xd8small", f"the page is in {picture}\n")


@pytest.mark.parametrize("code", BY_CODE)
def test_every_code_has_a_next_step(code: str) -> None:
    assert "ocrfleet dlq " in letter.next_step(code)
    assert "--id 17" in letter.next_step(code).format(id=17)
