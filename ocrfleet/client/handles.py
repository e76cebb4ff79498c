"""A submitted job as an object that one goes on with."""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ocrfleet.api_types import Job, Letter, LetterFilter, Redrive, Result
from ocrfleet.client.calls import Async, Sync, call, stream
from ocrfleet.client.export_handles import AsyncExportHandle, ExportHandle
from ocrfleet.client.exports import ExportCalls
from ocrfleet.client.jobs import Explanation, JobCalls
from ocrfleet.client.letters import LetterCalls
from ocrfleet.client.progress import Shown, shown
from ocrfleet.client.steps import Pause, Steps, Stream, mapped
from ocrfleet.states import JOB_TERMINAL

T = TypeVar("T")
POLL, LONG_POLL = 0.5, 10.0
"""Seconds."""


class Text(NamedTuple):
    """What one page says; `page` counts from 1."""

    name: str
    """The input's custom_id, else its key."""
    page: int
    text: str


class HandleCalls:
    """Methods of `JobHandle` and of `AsyncJobHandle`, which awaits them; errors are those of the client's calls."""

    def __init__(self, client: Any, job_id: str) -> None:  # noqa: ANN401 (a client of either kind)
        self.id = job_id
        self._client: Any = client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @call
    def status(self) -> Steps[Job]:
        """How far the job is."""
        return JobCalls.job.steps(self._client, self.id)

    @call
    def wait(self, timeout: float | None = None, *, progress: bool | Shown = False) -> Steps[Job]:
        """Wait until the job has ended, and return what it is then; look at its `state` and `outcome`.

        TimeoutError after `timeout` seconds: the job goes on. `progress`: a line on standard error, or a function that
        is given the job now and then.
        """
        show, begun = shown(progress), time.monotonic()
        job = yield from JobCalls.job.steps(self._client, self.id)
        while True:
            show(job)
            if job["state"] in JOB_TERMINAL:
                return job
            left = LONG_POLL if timeout is None else begun + timeout - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {self.id} is still {job['state']} after {timeout:g} s; it goes on")
            # Of a busy job the next change is at hand: it is looked at now and then, not at every page.
            yield Pause(min(POLL, left))
            wait = round(max(0.0, min(LONG_POLL, left - POLL)), 3)
            job = yield from JobCalls.job.steps(self._client, self.id, wait=wait)

    @stream
    def results(self, *, cursor: str | None = None, follow: bool = True) -> Stream[Result]:
        """Results and failures in the order in which they come, each once; without `follow` only those there are."""
        return JobCalls.results.steps(self._client, self.id, cursor=cursor, follow=follow)

    @stream
    def texts(self, *, follow: bool = True) -> Stream[Text]:
        """The text of every page that was read, as it comes: pages of one document may come apart and out of order."""
        return mapped(JobCalls.results.steps(self._client, self.id, follow=follow), _text)

    @call
    def cancel(self) -> Steps[Job]:
        """Begin nothing more, abort what runs; results so far stay."""
        return JobCalls.cancel_job.steps(self._client, self.id)

    @call
    def pause(self) -> Steps[Job]:
        """Begin nothing more; what runs is finished."""
        return JobCalls.pause_job.steps(self._client, self.id)

    @call
    def resume(self) -> Steps[Job]:
        """Go on from where a pause left it."""
        return JobCalls.resume_job.steps(self._client, self.id)

    @call
    def explain(self) -> Steps[Explanation]:
        """Why the job waits, or what it does, with the next step."""
        return JobCalls.explain_job.steps(self._client, self.id)

    @call
    def retry(
        self,
        codes: Sequence[str] | None = None,
        *,
        max_per_second: float | None = None,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Steps[Redrive]:
        """Run failed pages again, all or those with these codes; `wait` then waits for them too."""
        which = LetterFilter(codes=codes) if codes else None
        return LetterCalls.retry_job.steps(
            self._client, self.id, which, max_per_second=max_per_second, options=options, reason=reason
        )

    @stream
    def dead_letters(self, codes: Sequence[str] | None = None) -> Stream[Letter]:
        """Pages that ended without a result, newest first."""
        which = LetterFilter(job_id=self.id)
        if codes:
            which["codes"] = codes
        return LetterCalls.dead_letters.steps(self._client, which)


def _text(result: Result) -> Iterable[Text]:
    if "error" not in result:
        yield Text(result["custom_id"] or result["key"], result["page"] or 1, result.get("text") or "")


class JobHandle(HandleCalls, Sync):
    """A job of a `Client`; threads may share it."""

    def carry_out(self, steps: Steps[T]) -> T:
        return self._client.carry_out(steps)

    def go_through(self, steps: Stream[T]) -> Iterator[T]:
        return self._client.go_through(steps)

    def export(
        self,
        format: str,  # noqa: A002 (the API's name)
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        partial: bool = False,
    ) -> ExportHandle:
        """Write the results to a bucket, and go on with the export: `.wait()`; see `create_export`."""
        made = self.carry_out(
            ExportCalls.create_export.steps(
                self._client, self.id, format, bucket=bucket, prefix=prefix, partial=partial
            )
        )
        return ExportHandle(self._client, made["id"])


class AsyncJobHandle(HandleCalls, Async):
    """A job of an `AsyncClient`."""

    async def carry_out(self, steps: Steps[T]) -> T:
        return await self._client.carry_out(steps)

    def go_through(self, steps: Stream[T]) -> AsyncIterator[T]:
        return self._client.go_through(steps)

    async def export(
        self,
        format: str,  # noqa: A002 (the API's name)
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        partial: bool = False,
    ) -> AsyncExportHandle:
        """Write the results to a bucket, and go on with the export; see `JobHandle.export`."""
        made = await self.carry_out(
            ExportCalls.create_export.steps(
                self._client, self.id, format, bucket=bucket, prefix=prefix, partial=partial
            )
        )
        return AsyncExportHandle(self._client, made["id"])
