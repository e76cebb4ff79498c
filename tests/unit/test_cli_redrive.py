"""`ocrfleet dlq redrive`, `redrives`, `discard` and `jobs retry`: what they ask of the API, and what they tell."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from canned_api import CannedApi, call
from dlq_answers import PLAN, REDRIVE


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with CannedApi({}) as api:
        yield api


def test_a_redrive_says_what_it_does_and_where_to_see_it(api: CannedApi, tmp_path: Path) -> None:
    api.answers["POST /v1/redrives"] = (202, REDRIVE)
    changed = [
        "--option",
        "password=a=b",
        "--parameter",
        "max_tokens=16384",
        "--parameter",
        "temperature=0.5",
    ]
    which = ["--code", "output_truncated", "--code", "x", "--job", "j-1"]
    status, out, err = call(
        api, tmp_path, "dlq", "redrive", *which, "--rate", "50", *changed, "--reason", "mended"
    )
    assert api.asked == [
        (
            "POST /v1/redrives",
            {
                "filter": {"job_id": "j-1", "codes": ["output_truncated", "x"]},
                "override": {
                    "options": {"password": "a=b", "parameters": {"max_tokens": 16384, "temperature": 0.5}}
                },
                "max_per_second": 50.0,
                "reason": "mended",
            },
        )
    ]
    assert (status, out.splitlines()) == (
        0,
        [
            "redrive 5: 5,000 pages to run again, 312 more follow, at most 50 a second",
            "left out  4: the job is canceled",
            "left out  1: their line of the manifest names no object",
        ],
    )
    assert err == "to see how far it is: ocrfleet dlq redrives 5\n"


def test_a_redrive_that_meets_nothing_says_so(api: CannedApi, tmp_path: Path) -> None:
    api.answers["POST /v1/redrives"] = (202, REDRIVE | {"pages": 0, "remaining": 0, "left_out": {}})
    assert call(api, tmp_path, "dlq", "redrive", "--all")[1:] == (
        "redrive 5: no dead letter is meant, at most 50 a second\n",
        "",
    )
    assert api.asked[0][1]["filter"] == {"all": True}


def test_a_dry_run_counts(api: CannedApi, tmp_path: Path) -> None:
    api.answers["POST /v1/redrives"] = PLAN
    status, out, _ = call(api, tmp_path, "dlq", "redrive", "--all", "--dry-run", "--rate", "50")
    assert api.asked[0][1] == {"filter": {"all": True}, "max_per_second": 50.0, "validate_only": True}
    assert (status, [line.rstrip() for line in out.splitlines()]) == (
        0,
        [
            "312 pages of 3 jobs would run again, let go within 6 s",
            "",
            "code              pages",
            "output_truncated  300",
            "empty_output      12",
            "",
            "job  pages",
            "j-1  310",
            "j-2  1",
            "and 1 more job",
            "left out  2: the job is failed",
        ],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "--rate", "5"],
        ["redrive", "--all", "--option", "password"],
        ["redrive", "--all", "--parameter", "max_tokens=many"],
        ["redrive", "--all", "--parameter", "max_tokens=true"],
        ["discard", "--all", "--expect", "1"],
        ["discard", "--all", "--reason", "x"],
        ["discard", "--expect", "1", "--reason", "x"],
        ["ls", "--group-by", "colour"],
    ],
)
def test_a_call_that_says_too_little_or_nonsense_ends_with_2_and_asks_nothing(
    api: CannedApi, tmp_path: Path, arguments: list[str]
) -> None:
    assert call(api, tmp_path, "dlq", *arguments)[0] == 2
    assert api.asked == []


def test_redrives_are_listed_and_shown(api: CannedApi, tmp_path: Path) -> None:
    api.answers |= {
        "GET /v1/redrives": {"data": [REDRIVE], "next_page_token": None},
        "GET /v1/redrives/5": REDRIVE,
    }
    out = call(api, tmp_path, "dlq", "redrives")[1]
    assert out.splitlines()[1].split() == [
        "5",
        "2026-11-20T10:00:00",
        "5,000",
        "200",
        "12",
        "98",
        "2",
        "0",
        "mended",
    ]
    assert call(api, tmp_path, "dlq", "redrives", "5")[1].splitlines() == [
        "redrive   5, 2026-11-20T10:00:00, at most 50 a second",
        "letters   job_id=j-1  codes=a,b",
        "options   password=********",
        "reason    mended",
        "pages     5,000: 200 ready, 12 running, 98 succeeded, 2 dead",
        "to come   312",
        "left out  4: the job is canceled",
        "left out  1: their line of the manifest names no object",
    ]
    assert json.loads(call(api, tmp_path, "dlq", "redrives", "5", "--json")[1]) == REDRIVE


def test_letters_are_discarded_by_their_number(api: CannedApi, tmp_path: Path) -> None:
    api.answers["POST /v1/dead-letters/discard"] = {"discarded": 1312}
    arguments = ["--code", "corrupt_file", "--expect", "1312", "--reason", "scanned again"]
    assert call(api, tmp_path, "dlq", "discard", *arguments) == (0, "1,312 letters discarded\n", "")
    body = {"filter": {"codes": ["corrupt_file"]}, "expected_count": 1312, "reason": "scanned again"}
    assert api.asked == [("POST /v1/dead-letters/discard", body)]


def test_a_discard_of_another_number_ends_with_1_and_says_why(api: CannedApi, tmp_path: Path) -> None:
    problem = {"code": "job_state_conflict", "detail": "3 were expected, it meets 2", "status": 409}
    api.answers["POST /v1/dead-letters/discard"] = (409, problem)
    status, out, err = call(api, tmp_path, "dlq", "discard", "--all", "--expect", "3", "--reason", "x")
    assert (status, out) == (1, "")
    assert err.startswith(
        "error: job_state_conflict: 3 were expected, it meets 2\n  next: look at what is there now"
    )


def test_a_jobs_failed_pages_are_retried(api: CannedApi, tmp_path: Path) -> None:
    api.answers["POST /v1/jobs/j-1/retry"] = (202, REDRIVE)
    status, out, _ = call(api, tmp_path, "jobs", "retry", "j-1", "--code", "a", "--option", "password=x")
    assert (status, out.splitlines()[0].split(":")[0]) == (0, "redrive 5")
    override = {"options": {"password": "x"}}
    body = {"filter": {"codes": ["a"]}, "override": override, "max_per_second": None, "reason": None}
    assert api.asked == [("POST /v1/jobs/j-1/retry", body)]
