"""Both clients are one: the same calls, the same tries, and handles that wait, read and act alike."""

import asyncio
import inspect
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import httpx
import pytest
from cli_fakes import KEY, FakeApi
from test_cli_commands import job_with

import ocrfleet
from ocrfleet.client import (
    ApiError,
    AsyncClient,
    AsyncJobHandle,
    Client,
    JobHandle,
    Text,
    UnreachableError,
    asks,
)
from ocrfleet.client.calls import call, stream
from ocrfleet.client.export_handles import AsyncExportHandle, ExportHandle
from ocrfleet.client.progress import Line
from ocrfleet.client.sources import Source, described

FLAVOURS = ("sync", "async")
PAIRS = [(Client, AsyncClient), (JobHandle, AsyncJobHandle), (ExportHandle, AsyncExportHandle)]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


class Either:
    """A client of one kind, used in the same words as the other."""

    def __init__(self, flavour: str, api: FakeApi) -> None:
        self._loop = asyncio.Runner() if flavour == "async" else None
        self.client: Any = (AsyncClient if self._loop else Client)(api.url, KEY, attempts=3)

    def do(self, came: object) -> Any:  # noqa: ANN401 (what the call answers)
        if self._loop is None:
            return list(came) if isinstance(came, Iterator) else came
        assert isinstance(came, AsyncIterator | Awaitable)
        return self._loop.run(_all(came) if isinstance(came, AsyncIterator) else _await(came))

    def close_client(self) -> None:
        closed = self.client.close()
        if self._loop:
            self._loop.run(closed)

    def close(self) -> None:
        self.close_client()
        if self._loop:
            self._loop.close()


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _await(value: Awaitable[object]) -> object:
    return await value


@pytest.fixture(params=FLAVOURS)
def either(request: pytest.FixtureRequest, api: FakeApi) -> Iterator[Either]:
    either = Either(request.param, api)
    yield either
    either.close()


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "other"), PAIRS)
def test_both_have_the_same_methods_and_signatures(sync: type, other: type) -> None:
    assert public(sync).keys() == public(other).keys()
    for name, member in public(sync).items():
        twin = public(other)[name]
        assert isinstance(member, call) == isinstance(twin, call)
        assert isinstance(member, stream) == isinstance(twin, stream)
        if callable(member) and name not in ("carry_out", "go_through"):
            assert list(inspect.signature(member).parameters.values()) == list(
                inspect.signature(twin).parameters.values()
            ), name
            assert inspect.getdoc(member), name


def test_importing_the_package_does_not_load_the_sdk() -> None:
    loaded = "import sys, ocrfleet; print(*sys.modules); ocrfleet.Client; print(*sys.modules)"
    before, after = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "httpx" not in before.split()
    assert "httpx" in after.split()
    assert {"sqlalchemy", "pydantic", "minio", "fastapi"} & set(after.split()) == set()
    assert ocrfleet.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="Nothing"):
        _ = ocrfleet.Nothing  # type: ignore[attr-defined]


def test_an_answer_a_list_and_a_stream(api: FakeApi, either: Either) -> None:
    jobs = [job_with(api, "one"), job_with(api, "two")]
    assert either.do(either.client.job(jobs[0]))["state"] == "completed"
    assert [job["id"] for job in either.do(either.client.jobs(page_size=1))] == jobs[::-1]
    assert [result["text"] for result in either.do(either.client.results(jobs[1]))] == ["two"]


@pytest.mark.parametrize("sent", [0, 5, 10_000], ids=["before the line", "inside it", "right after it"])
def test_a_broken_stream_goes_on(api: FakeApi, either: Either, sent: int) -> None:
    job = job_with(api, "one", "two", "three")
    api.cuts = [(2, sent), (3, sent)]
    assert [result["seq"] for result in either.do(either.client.results(job))] == [1, 2, 3]


def test_a_refusal_is_raised_and_not_repeated(api: FakeApi, either: Either) -> None:
    with pytest.raises(ApiError) as caught:
        either.do(either.client.job("nothing"))
    assert (caught.value.code, len(api.requests)) == ("not_found", 1)


def test_the_key_of_a_submission_is_kept_over_its_tries_and_new_for_the_next(
    api: FakeApi, either: Either
) -> None:
    api.busy, api.hang_ups = 1, 1
    either.do(either.client.submit("s3://b/p/"))
    either.do(either.client.submit("s3://b/p/"))
    keys = [headers["Idempotency-Key"] for headers in api.headers]
    assert (len(keys), len(set(keys[:3])), len(set(keys))) == (4, 1, 2)


def test_a_server_that_hangs_up_for_ever_is_unreachable(api: FakeApi, either: Either) -> None:
    api.hang_ups = 99
    with pytest.raises(UnreachableError, match=api.url):
        either.do(either.client.job("x"))
    assert len(api.requests) == 3


def test_a_closed_client_says_so(either: Either) -> None:
    either.close_client()
    with pytest.raises(UnreachableError, match="closed"):
        either.do(either.client.job("x"))


def answer(status: int, headers: dict[str, str] | None = None, **problem: object) -> httpx.Response:
    kind = {"Content-Type": "application/problem+json"} if problem else {}
    return httpx.Response(status, headers={**kind, **(headers or {})}, json=problem or None)


@pytest.mark.parametrize(
    ("response", "again"),
    [
        (answer(429, code="rate_limited"), True),
        (answer(429, {"Retry-After": "60"}, code="rate_limited"), True),
        (answer(429, {"Retry-After": "61"}, code="rate_limited"), False),
        (answer(503, {"Retry-After": "86400"}), True),
        (answer(503), True),
        (answer(409, code="idempotency_in_flight"), True),
        (answer(409, code="job_state_conflict"), False),
        (answer(502), True),
        (answer(504), True),
        (answer(504, code="inference_timeout"), False),
        (answer(500, code="internal"), False),
        (answer(404, code="not_found"), False),
    ],
)
def test_what_is_tried_again(response: httpx.Response, *, again: bool) -> None:
    assert asks.worth_another_try(response) is again


def test_what_the_server_asks_for_is_waited_and_else_a_jittered_backoff() -> None:
    assert asks.retry_after(answer(429, {"Retry-After": "7"})) == 7
    assert asks.retry_after(answer(429, {"Retry-After": "86400"})) == asks.LONGEST_WAIT
    assert asks.retry_after(answer(503, {"Retry-After": "soon"})) == 0
    for failures, longest in ((1, 0.25), (3, 1.0), (20, asks.LONGEST_BACKOFF)):
        waits = [asks.backoff(failures) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_handle_waits_and_reads(api: FakeApi, either: Either) -> None:
    job = either.client.attach(job_with(api, "one", "two", "!corrupt_file"))
    seen: list[str] = []
    ended = either.do(job.wait(progress=lambda job: seen.append(job["state"])))
    assert (ended["outcome"], seen) == ("partial", ["completed"])
    assert either.do(job.texts()) == [Text("x", 2, "two"), Text("x", 1, "one")]
    assert len(either.do(job.results())) == 3
    assert either.do(job.status())["id"] == job.id


def test_a_handle_acts(api: FakeApi, either: Either) -> None:
    api.hold.clear()
    job = either.client.attach(job_with(api, "one"))
    assert either.do(job.pause())["state"] == "paused"
    assert either.do(job.resume())["state"] == "running"
    assert either.do(job.cancel())["state"] == "canceling"


def test_waiting_ends_with_its_time_and_leaves_the_job(api: FakeApi, either: Either) -> None:
    api.hold.clear()
    job = either.client.attach(job_with(api, "one"))
    with pytest.raises(TimeoutError, match=f"{job.id} is still running after 0.01 s"):
        either.do(job.wait(0.01))
    assert all(request.startswith("GET") for request in api.requests)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://b/2026/", {"type": "prefix", "bucket": "b", "prefix": "2026/"}),
        ("s3://b", {"type": "prefix", "bucket": "b", "prefix": ""}),
        ("s3://b/m.jsonl", {"type": "manifest", "bucket": "b", "key": "m.jsonl"}),
        ("s3://b/m.csv", {"type": "manifest", "bucket": "b", "key": "m.csv"}),
        (["s3://b/a.png"], {"type": "objects", "objects": [{"bucket": "b", "key": "a.png"}]}),
        ({"type": "prefix", "bucket": "b", "prefix": "p"}, {"type": "prefix", "bucket": "b", "prefix": "p"}),
        ("scans/a.png", None),
        (["a.png", "b.png"], None),
    ],
)
def test_a_source_becomes_an_input(source: Source, expected: object) -> None:
    assert described(source) == expected


@pytest.mark.parametrize("source", ["s3://", ["s3://b/a", "local.png"], ["s3://b"]])
def test_a_source_that_is_none_is_told(source: Source) -> None:
    with pytest.raises(ValueError, match="s3://"):
        described(source)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_of_a_terminal_and_elsewhere_a_line_at_the_end(api: FakeApi) -> None:
    job: Any = api.show(job_with(api, "one", "!corrupt_file"))
    terminal, file = Terminal(), io.StringIO()
    for stream_ in (terminal, file):
        Line(stream_)(job)
    assert terminal.getvalue() == "\r\x1b[Kcompleted: 2 of 2 pages, 1 failed\n"
    assert file.getvalue() == "completed: 2 of 2 pages, 1 failed\n"
