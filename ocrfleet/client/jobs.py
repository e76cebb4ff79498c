"""Calls about jobs: submitting, seeing, changing and ending them, and reading their results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import httpx
import orjson

from ocrfleet.api_types import Job, JobChanges, JobInput, Result
from ocrfleet.client.asks import Calls, backoff, given, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.errors import UnreachableError
from ocrfleet.client.steps import Close, Emit, Pause, Read, Send, Steps, Stream

GRACE = 15.0
"""Seconds that an answer may take which the server itself makes wait."""


class JobOptions(TypedDict, total=False):
    """What may be said with a job beside its input and its task; None is as if it were not said."""

    prompt: str | None
    """What to ask the model, in the place of the task's own words."""
    fields: Sequence[str] | None
    output_schema: Mapping[str, Any] | None
    options: Mapping[str, Any] | None
    priority: int | None
    """0 to 9; within the tenant higher goes first."""
    deadline: str | None
    """ISO 8601; what is not done by then is canceled."""
    labels: Mapping[str, str] | None
    output: Mapping[str, Any] | None
    webhook_ids: Sequence[str] | None


class Reason(TypedDict):
    """One thing that keeps a job waiting, or that it does."""

    code: str
    sentence: str
    next_step: str | None


class Explanation(TypedDict):
    """Why a job waits or what it does; the first reason weighs most."""

    job_id: str
    state: str
    reasons: list[Reason]


class JobCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @call
    def create_job(
        self, job_input: JobInput, *, task: str = "text", **options: Unpack[JobOptions]
    ) -> Steps[Job]:
        """Submit a job; what a task needs and takes, `tasks` tells.

        ApiError: `validation_failed` with the members at fault, `unknown_task`, `prompt_too_long`.
        """
        return self.send("POST", "/v1/jobs", given(input=job_input, task=task, **options))

    @call
    def job(self, job_id: str, *, wait: float | None = None) -> Steps[Job]:
        """How far a job is; with `wait` when something has changed, or after so many seconds. ApiError `not_found`."""
        if wait is None:
            return self.get(_path(job_id))
        return self.get(_path(job_id), {"wait": wait}, timeout=wait + GRACE)

    @call
    def explain_job(self, job_id: str) -> Steps[Explanation]:
        """Why a job waits, or what it does, in sentences, each with the next step."""
        return self.get(f"{_path(job_id)}/explain")

    @stream
    def jobs(
        self, *, state: str | None = None, labels: Mapping[str, str] | None = None, page_size: int = 100
    ) -> Stream[Job]:
        """Every job, newest first, fetched page by page as the caller goes on."""
        params = httpx.QueryParams(given(page_size=page_size, state=state))
        for name, value in (labels or {}).items():
            params = params.add("label", f"{name}:{value}")
        return self.listed("/v1/jobs", params)

    @call
    def cancel_job(self, job_id: str) -> Steps[Job]:
        """Nothing more is begun, and what runs is aborted; canceling twice is no error. So are the other acts."""
        return self.send("POST", f"{_path(job_id)}/cancel")

    @call
    def pause_job(self, job_id: str) -> Steps[Job]:
        """Nothing more is begun; pages under way are finished. ApiError `job_state_conflict` once it has ended."""
        return self.send("POST", f"{_path(job_id)}/pause")

    @call
    def resume_job(self, job_id: str) -> Steps[Job]:
        """A paused job goes on from where it was."""
        return self.send("POST", f"{_path(job_id)}/resume")

    @call
    def update_job(self, job_id: str, **changes: Unpack[JobChanges]) -> Steps[Job]:
        """Change what is named; a deadline of None takes it away, and so does a label's."""
        return self.send("PATCH", _path(job_id), changes)

    @call
    def delete_job(self, job_id: str) -> Steps[Job]:
        """Delete an ended job and its results; the answer is the last of it."""
        return self.send("DELETE", _path(job_id))

    @stream
    def results(self, job_id: str, *, cursor: str | None = None, follow: bool = False) -> Stream[Result]:
        """Results in order of `seq`, each once, from after `cursor` (a seq); with `follow` until the job ends.

        A stream may break any number of times; UnreachableError if it does as often as a call is tried, without a line.
        """
        barren = 0
        while barren < self.attempts:
            query = given(follow=str(follow).lower(), cursor=cursor)
            ask = Send(
                method="GET", path=f"{_path(job_id)}/results", params=httpx.QueryParams(query), stream=True
            )
            response = yield from self.ask(ask)
            barren += 1
            lines = Lines()
            try:
                while (chunk := (yield Read(response))) is not None:
                    for record in lines.add(chunk):
                        if "_end" in record:
                            return
                        barren, cursor = 0, str(record["seq"])
                        yield Emit(record)
            except httpx.ReadTimeout:
                barren = 0  # silence is no failure: a job may have nothing to tell for long
            except httpx.TransportError:
                pass  # resumed after the last line that came whole
            yield Close(response)
            yield Pause(backoff(barren))
        raise UnreachableError(f"the stream of results broke {barren} times without a line: {self.url}")


class Lines:
    """JSON lines of chunks. Split at newlines only: httpx would also split inside a text, at U+2028."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, chunk: bytes) -> Iterator[Any]:
        """What has become whole."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return (orjson.loads(line) for line in lines if line.strip())


def _path(job_id: str) -> str:
    return f"/v1/jobs/{part(job_id)}"
