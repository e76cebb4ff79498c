"""What is done to jobs from the command line: one or many at a time, each told in a line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fakes import KEY, FakeApi
from test_cli_commands import call, job_with

from ocrfleet.client import Client


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.mark.parametrize(
    ("command", "request_line", "state"),
    [
        ("cancel", "POST /v1/jobs/{}/cancel", "canceling"),
        ("pause", "POST /v1/jobs/{}/pause", "paused"),
        ("resume", "POST /v1/jobs/{}/resume", "running"),
    ],
)
def test_an_act_on_several_jobs_tells_each_in_a_line(
    api: FakeApi, tmp_path: Path, command: str, request_line: str, state: str
) -> None:
    api.hold.clear()
    jobs = [job_with(api, "one"), job_with(api, "two")]
    status, out, err = call(api, tmp_path, "jobs", command, *jobs)
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"{job}  {state}" for job in jobs]
    assert api.requests == [request_line.format(job) for job in jobs]


def test_jobs_that_refuse_are_told_apart_and_do_not_keep_the_others(api: FakeApi, tmp_path: Path) -> None:
    api.hold.clear()
    job = job_with(api, "one")
    status, out, err = call(api, tmp_path, "jobs", "pause", "gone", job, "--json")
    assert (status, err) == (5, "error: gone: not_found: not_found! (request r1)\n")
    assert json.loads(out)["state"] == "paused"
    api.hold.set()
    status, out, err = call(api, tmp_path, "jobs", "cancel", job)
    assert (status, out, err) == (
        1,
        "",
        f"error: {job}: job_state_conflict: job_state_conflict! (request r1)\n",
    )


def test_a_wrong_key_is_told_once(api: FakeApi, tmp_path: Path) -> None:
    status, out, err = call(api, tmp_path, "jobs", "cancel", "a", "b", key="ocrk_wrong_key")
    assert (status, out, err) == (4, "", "error: a: unauthenticated: unauthenticated! (request r1)\n")


def test_a_finished_job_is_removed_and_a_live_one_is_refused_with_the_servers_words(
    api: FakeApi, tmp_path: Path
) -> None:
    job = job_with(api, "one")
    api.hold.clear()
    status, out, err = call(api, tmp_path, "jobs", "rm", job)
    assert (status, out, err) == (
        1,
        "",
        f"error: {job}: job_state_conflict: job_state_conflict! (request r1)\n",
    )
    api.hold.set()
    assert call(api, tmp_path, "jobs", "rm", job) == (0, f"{job}  deleted\n", "")
    assert call(api, tmp_path, "jobs", "rm", job)[0] == 5


def test_what_is_updated_is_what_was_named(api: FakeApi, tmp_path: Path) -> None:
    job = job_with(api, "one")
    options = ["--priority", "9", "--label", "batch=dec", "--remove-label", "draft"]
    status, out, _ = call(api, tmp_path, "jobs", "update", job, *options)
    assert (status, api.jobs[job]["priority"]) == (0, 9)
    assert api.jobs[job]["labels"] == {"batch": "dec", "draft": None}
    assert "deadline" not in api.jobs[job]
    assert out.startswith(f"{job}  priority 9, deadline none, labels batch=dec")
    call(api, tmp_path, "jobs", "update", job, "--deadline", "2027-01-01T00:00:00Z")
    assert api.jobs[job]["deadline"] == "2027-01-01T00:00:00Z"
    call(api, tmp_path, "jobs", "update", job, "--no-deadline")
    assert (api.jobs[job]["deadline"], api.jobs[job]["priority"]) == (None, 9)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel"],
        ["update", "a"],
        ["update", "a", "--priority", "10"],
        ["update", "a", "--label", "x"],
        ["update", "a", "--deadline", "2027-01-01T00:00:00Z", "--no-deadline"],
    ],
)
def test_a_call_that_says_too_little_or_too_much_ends_with_2_and_asks_nothing(
    api: FakeApi, tmp_path: Path, arguments: list[str]
) -> None:
    assert call(api, tmp_path, "jobs", *arguments)[0] == 2
    assert api.requests == []


def test_an_act_is_sent_again_when_its_answer_was_lost(api: FakeApi) -> None:
    """All of them may be repeated; a server that hangs up before it answers has perhaps done it."""
    api.hold.clear()
    job = job_with(api, "one")
    api.hang_ups = 2
    with Client(api.url, KEY) as client:
        assert client.pause_job(job)["state"] == "paused"
    assert len(api.requests) == 3
