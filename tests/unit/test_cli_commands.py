"""The commands as processes: what goes where, and with which exit code they end."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fakes import KEY, FakeApi
from typer.testing import CliRunner

from ocrfleet.cli import COMMANDS, build
from ocrfleet.settings import child_environment

MANIFEST = ["s3://scans/a.png", '{"bucket":"scans","key":"b.pdf","pages":"1-2"}']


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


def start(api: FakeApi, state: Path, *arguments: str, key: str = KEY) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ocrfleet.cli", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=child_environment(OCRFLEET_URL=api.url, OCRFLEET_API_KEY=key, OCRFLEET_STATE=str(state)),
    )  # fmt: skip


def call(api: FakeApi, state: Path, *arguments: str, given: str = "", key: str = KEY) -> tuple[int, str, str]:
    process = start(api, state, *arguments, key=key)
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out, err


def job_with(api: FakeApi, *pages: str) -> str:
    api.blobs.kept = {"in": "\f".join(pages).encode(), "m": b'{"key":"in","custom_id":"x"}'}
    return api.submit({"input": {"type": "manifest", "key": "m"}, "task": "text"})["id"]


def test_help_names_every_command_and_imports_none(api: FakeApi, tmp_path: Path) -> None:
    status, out, _ = call(api, tmp_path, "--help")
    assert status == 0
    assert all(f"  {name} " in out and line in out for name, line in COMMANDS.items())
    loaded = "import sys, ocrfleet.cli; ocrfleet.cli.build(['--help']); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"httpx", "pydantic", "sqlalchemy", "minio", "rich"} & set(modules) == set()


JOBS = ("ls", "show", "watch", "cancel", "pause", "resume", "update", "rm")


@pytest.mark.parametrize("command", [*COMMANDS, *(f"jobs {act}" for act in JOBS), "keys create"])
def test_every_command_explains_itself(command: str) -> None:
    arguments = [*command.split(), "--help"]
    answer = CliRunner().invoke(build(arguments), arguments, prog_name="ocrfleet")
    assert answer.exit_code == 0
    assert answer.output.startswith(f"Usage: ocrfleet {command}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["jobs", "ls", "--wings"],
        ["run"],
        ["submit"],
        ["submit", "s3://a/", "s3://b/"],
        ["submit", "-", "a.png"],
        ["submit", "a.png", "--manifest", "s3://a/m.csv"],
        ["upload"],
    ],
)
def test_a_wrong_call_ends_with_2(api: FakeApi, tmp_path: Path, arguments: list[str]) -> None:
    assert call(api, tmp_path, *arguments)[0] == 2


def test_a_wrong_key_ends_with_4(api: FakeApi, tmp_path: Path) -> None:
    status, out, err = call(api, tmp_path, "jobs", "ls", key="ocrk_wrong_key")
    assert (status, out) == (4, "")
    assert err.startswith("error: unauthenticated: unauthenticated! (request r1)")


def test_an_unknown_job_ends_with_5(api: FakeApi, tmp_path: Path) -> None:
    assert call(api, tmp_path, "jobs", "show", "nothing")[0] == 5


def test_a_path_that_is_not_there_ends_with_5_before_anything_starts(api: FakeApi, tmp_path: Path) -> None:
    status, _, err = call(api, tmp_path / "state", "run", str(tmp_path / "gone.png"))
    assert status == 5
    assert err == f"error: input_not_found: {tmp_path}/gone.png: no such file or folder\n"


def test_jobs_are_listed_for_people_and_for_programs(api: FakeApi, tmp_path: Path) -> None:
    job = job_with(api, "one", "!corrupt_file")
    status, out, _ = call(api, tmp_path, "jobs", "ls")
    assert (status, out.splitlines()[1].split()) == (
        0,
        [job, "partial", "text", "2", "2", "1", "2026-11-20T10:00:00"],
    )
    assert json.loads(call(api, tmp_path, "jobs", "ls", "--json")[1])["id"] == job


def test_results_are_json_lines_on_standard_output(api: FakeApi, tmp_path: Path) -> None:
    status, out, err = call(api, tmp_path, "results", job_with(api, "one", "two"), "--follow")
    assert (status, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["two", "one"]


@pytest.mark.parametrize(("pages", "status"), [(["one"], 0), (["one", "!x"], 3), (["!x"], 1)])
def test_watching_ends_with_the_jobs_exit_code(
    api: FakeApi, tmp_path: Path, pages: list[str], status: int
) -> None:
    assert call(api, tmp_path, "jobs", "watch", job_with(api, *pages))[0] == status


def test_ctrl_c_leaves_a_watched_job_running_and_says_how_to_come_back(api: FakeApi, tmp_path: Path) -> None:
    job = job_with(api, "one")
    api.hold.clear()
    process = start(api, tmp_path, "jobs", "watch", job)
    assert process.stderr
    assert process.stderr.readline() == "pages 0/1\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (8, f"the job goes on; come back with: ocrfleet jobs watch {job}\n")


def test_submitting_prints_the_jobs_id(api: FakeApi, tmp_path: Path) -> None:
    status, out, err = call(
        api, tmp_path, "submit", "s3://scans/2026/", "--include", "*.pdf", "--label", "batch=nov"
    )
    [job] = api.jobs.values()
    assert (status, out) == (0, f"{job['id']}\n")
    assert f"ocrfleet jobs watch {job['id']}" in err
    assert job["input"] == {"type": "prefix", "bucket": "scans", "prefix": "2026/", "include": ["*.pdf"]}
    assert job["labels"] == {"batch": "nov"}


def test_objects_on_standard_input_are_submitted_and_watched(api: FakeApi, tmp_path: Path) -> None:
    status, out, _ = call(api, tmp_path, "submit", "-", "--watch", "--json", given="\n".join(MANIFEST))
    assert (status, json.loads(out)["state"]) == (0, "completed")
    [job] = api.jobs.values()
    assert job["input"]["objects"] == [
        {"bucket": "scans", "key": "a.png"},
        {"bucket": "scans", "key": "b.pdf", "pages": "1-2"},
    ]


def test_a_dry_run_of_local_files_lists_them_and_sends_nothing(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(b"four")
    status, out, err = call(api, tmp_path / "state", "submit", str(tmp_path / "scans"), "--dry-run")
    assert (status, out) == (0, "a.png\n")
    assert "1 files, 4 bytes" in err
    assert api.requests == []
    assert call(api, tmp_path / "state", "submit", str(tmp_path / "nothing"))[0] == 5


def test_a_dry_run_lists_and_submits_nothing(api: FakeApi, tmp_path: Path) -> None:
    status, out, _ = call(api, tmp_path, "submit", "-", "--dry-run", given="\n".join(MANIFEST))
    assert (status, out.splitlines()) == (0, ["s3://scans/a.png", "s3://scans/b.pdf"])
    assert api.requests == []


@pytest.mark.parametrize("line", ['{"key":"no-bucket"}', "[1]", "not json", '{"bucket":"b"}'])
def test_a_line_that_names_no_object_ends_with_5_and_its_number(
    api: FakeApi, tmp_path: Path, line: str
) -> None:
    status, _, err = call(api, tmp_path, "submit", "-", given=f"{MANIFEST[0]}\n{line}\n")
    assert (status, api.requests) == (5, [])
    assert err.startswith("error: manifest_invalid: line 2")


def test_more_objects_than_a_request_takes_are_refused_with_the_limit(api: FakeApi, tmp_path: Path) -> None:
    status, _, err = call(api, tmp_path, "submit", "-", given=f"{MANIFEST[0]}\n" * 1001)
    assert (status, api.requests) == (5, [])
    assert "more than 1000 objects" in err


def test_submitting_says_what_is_wanted(api: FakeApi, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    wanted = [
        "--task",
        "extract",
        "--prompt",
        "all",
        "--field",
        "a",
        "--field",
        "b c",
        "--schema",
        str(schema),
    ]
    assert call(api, tmp_path, "submit", "s3://scans/", *wanted, "--to", "zh", "--pages", "1")[0] == 0
    [job] = api.jobs.values()
    assert (job["task"], job["prompt"], job["fields"]) == ("extract", "all", ["a", "b c"])
    assert job["output_schema"] == {"type": "object"}
    assert job["options"] == {"pages": "1", "target_language": "zh"}
    assert call(api, tmp_path, "submit", "s3://scans/", "--to", "fr")[0] == 2


def test_without_a_fleet_the_tasks_are_listed_all_the_same(tmp_path: Path) -> None:
    with FakeApi() as gone:
        pass
    status, out, err = call(gone, tmp_path, "tasks")
    assert (status, out.splitlines()[1].split()[:3]) == (0, ["text", "?", "text"])
    assert gone.url in err
