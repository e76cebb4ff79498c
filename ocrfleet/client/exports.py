"""Calls about what came of a job besides its stream: its inputs one by one, and exports to a bucket."""

from collections.abc import Mapping
from typing import Any, TypedDict

from ocrfleet.client.asks import Calls, given, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.steps import Steps, Stream


class Export(TypedDict):
    """An export and how far it is; `state` is queued, running, completed or failed."""

    id: str
    job_id: str
    format: str
    bucket: str
    prefix: str
    partial: bool
    state: str
    items: int
    failed: int
    bytes: int
    error: dict[str, Any] | None
    created_at: str
    finished_at: str | None


class Item(TypedDict):
    """An input; `state` is pending, running, succeeded, partial, dead or canceled, `pages` counts them by state."""

    id: str
    job_id: str
    ordinal: int
    bucket: str
    key: str
    member: str | None
    etag: str | None
    version_id: str | None
    bytes: int | None
    custom_id: str | None
    state: str
    code: str | None
    page_count: int | None
    pages: Mapping[str, int]


class ItemPage(TypedDict):
    """A page of an input; 0 stands for an input that could not be read at all."""

    id: str
    number: int
    state: str
    attempt: int
    failures: int
    losses: int
    since: str
    seq: int | None
    code: str | None
    detail: str | None


class ItemAttempt(TypedDict):
    """One time that a page was tried and failed."""

    page_id: str
    page: int | None
    attempt: int
    fence: int
    code: str
    detail: str
    parameters: Mapping[str, Any]
    raw_tail: str | None
    worker: str | None
    device: str | None
    model: str | None
    revision: str | None
    exclusive: bool
    timings_ms: Mapping[str, int]
    started_at: str | None
    ended_at: str
    thumbnail: str | None


class ExportCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @call
    def create_export(
        self,
        job_id: str,
        format: str,  # noqa: A002 (the API's name)
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        partial: bool = False,
    ) -> Steps[Export]:
        """Have a job's results written to a bucket, as jsonl, markdown, parquet, pdf or alto.

        `partial`: of a job that still runs, what there is. ApiError `validation_failed` for pdf and alto of a job
        whose results have no regions.
        """
        body = given(format=format, bucket=bucket, prefix=prefix, partial=partial or None)
        return self.send("POST", f"/v1/jobs/{part(job_id)}/exports", body)

    @call
    def export(self, export_id: str) -> Steps[Export]:
        """How far an export is."""
        return self.get(_export(export_id))

    @stream
    def exports(self, job_id: str, *, page_size: int = 100) -> Stream[Export]:
        """Every export of a job, newest first."""
        return self.listed(f"/v1/jobs/{part(job_id)}/exports", {"page_size": page_size})

    @stream
    def items(
        self,
        job_id: str,
        *,
        state: str | None = None,
        custom_id: str | None = None,
        key: str | None = None,
        page_size: int = 100,
    ) -> Stream[Item]:
        """The inputs of a job in order, all or those that are meant, fetched page by page as the caller goes on."""
        query = given(state=state, custom_id=custom_id, key=key, page_size=page_size)
        return self.listed(f"/v1/jobs/{part(job_id)}/items", query)

    @call
    def item(self, item_id: str) -> Steps[Item]:
        """One input of a job."""
        return self.get(_item(item_id))

    @stream
    def item_pages(self, item_id: str, *, page_size: int = 100) -> Stream[ItemPage]:
        """The pages of an input by number."""
        return self.listed(f"{_item(item_id)}/pages", {"page_size": page_size})

    @stream
    def item_attempts(self, item_id: str, *, page_size: int = 100) -> Stream[ItemAttempt]:
        """What was tried with an input's pages and failed, by page, oldest first."""
        return self.listed(f"{_item(item_id)}/attempts", {"page_size": page_size})


def _export(export_id: str) -> str:
    return f"/v1/exports/{part(export_id)}"


def _item(item_id: str) -> str:
    return f"/v1/items/{part(item_id)}"
