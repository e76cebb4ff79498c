"""Exports: a job's results written to a bucket, one predictable key for each input."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import RowMapping

from api import buckets, tokens
from api.answers import JOB_ID, JobError, Time
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.idempotency import NewId
from api.jobs import found
from api.problems import documented, refused
from api.schemas import Bucket, Strict, Text
from ocrfleet.errors import NotFound
from ocrfleet.states import ExportFormat, ExportState
from ocrfleet.store import exports, jobs
from ocrfleet.store.exports import NEED_REGIONS, NewExport

router = APIRouter(prefix="/v1", tags=["exports"])
MAX_PREFIX_BYTES = 512
EXPORT: dict[str, Any] = {
    "id": "5b0a3f5e-0d6c-4a43-8a0e-5e2d0b1c9f11",
    "job_id": JOB_ID,
    "format": "markdown",
    "bucket": "ocr",
    "prefix": f"exports/{JOB_ID}/markdown/",
    "partial": False,
    "state": "completed",
    "items": 1000000,
    "failed": 10,
    "bytes": 2140337001,
    "error": None,
    "created_at": "2026-11-20T10:00:00Z",
    "finished_at": "2026-11-20T10:21:14Z",
}
_EXAMPLES: Any = {
    "markdown": {"summary": "Markdown in the fleet's bucket", "value": {"format": "markdown"}},
    "pdf": {
        "summary": "Searchable PDFs",
        "value": {"format": "pdf", "bucket": "scans", "prefix": "searchable/"},
    },
}
_LOCATION = {"headers": {"Location": {"description": "The export.", "schema": {"type": "string"}}}}


def _short(prefix: str) -> str:
    size = len(prefix.encode())
    if size > MAX_PREFIX_BYTES:
        msg = f"must have at most {MAX_PREFIX_BYTES} bytes, not {size}"
        raise ValueError(msg)
    return prefix


class ExportRequest(Strict):
    """What is written, and where."""

    format: ExportFormat = Field(description="`pdf` and `alto` need regions in the results.")
    bucket: Bucket | None = Field(None, description="Default: the fleet's own bucket.")
    prefix: Annotated[Text, AfterValidator(_short)] | None = Field(
        None,
        description="Of every key, as it is given: end it with a slash. Default: `exports/<job>/<format>/`.",
    )
    partial: bool = Field(
        default=False, strict=True, description="Of a job that still runs: what there is now."
    )


class Export(BaseModel):
    """An export and how far it is."""

    model_config = example(EXPORT)

    id: UUID
    job_id: UUID
    format: ExportFormat
    bucket: str
    prefix: str
    partial: bool
    state: ExportState
    items: int = Field(description="Inputs done so far.")
    failed: int = Field(description="Those of which nothing could be written; `manifest.jsonl` says why.")
    bytes: int
    error: JobError | None = Field(description="Why the export as a whole failed.")
    created_at: Time
    finished_at: Time | None


class ExportList(BaseModel):
    """Exports, newest first."""

    model_config = example({"data": [EXPORT], "next_page_token": None})

    data: list[Export]
    next_page_token: str | None


@router.post(
    "/jobs/{job_id}/exports",
    status_code=202,
    summary="Write a job's results to a bucket",
    responses={
        202: _LOCATION,
        **documented("not_found", "validation_failed", "job_state_conflict", "input_access_denied"),
    },
)
def create_export(
    job_id: UUID,
    body: Annotated[ExportRequest, Body(openapi_examples=_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> Export:
    """One file for each input, then `manifest.jsonl`, and `_SUCCESS` at last. While it runs the same is made once only."""
    bucket = body.bucket or services.settings.bucket
    prefix = f"exports/{job_id}/{body.format}/" if body.prefix is None else body.prefix
    asked = NewExport(job_id, body.format, bucket, prefix, body.partial)
    with services.database.transaction() as session:
        found(jobs.get(session, caller.tenant_id, job_id), job_id)
        rights = buckets.rights_of(services, caller, job_id)
        buckets.check_written(rights, bucket, prefix, "/prefix")
        if body.format in NEED_REGIONS and exports.lacks_regions(session, job_id):
            detail = (
                f"{body.format} needs the places of the words, and the job's results have no regions; "
                "submit the job with options.regions true, or with the task `spotting`"
            )
            raise refused(("/format", detail))
        export_id = exports.create(session, caller.tenant_id, caller.key_id, asked, new_id)
        row = exports.get(session, caller.tenant_id, export_id)
    response.headers["Location"] = f"/v1/exports/{export_id}"
    return _view(row, export_id)


@router.get(
    "/jobs/{job_id}/exports",
    summary="List a job's exports, newest first",
    responses=documented("not_found", "validation_failed"),
)
def list_exports(
    job_id: UUID,
    caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> ExportList:
    """Also those that failed."""
    before: tuple[datetime, UUID] | None = None
    if page_token:
        created_at, export_id = tokens.read(page_token, datetime.fromisoformat, UUID)
        before = created_at, export_id
    with services.database.transaction() as session:
        found(jobs.get(session, caller.tenant_id, job_id), job_id)
        # One more than asked for, to know whether there is a next page.
        rows = exports.listing(session, caller.tenant_id, job_id, limit=page_size + 1, before=before)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    return ExportList(data=[_view(row, row["id"]) for row in shown], next_page_token=token)


@router.get(
    "/exports/{export_id}",
    summary="See how far an export is",
    responses=documented("not_found", "validation_failed"),
)
def get_export(export_id: UUID, caller: GivenCaller, services: GivenServices) -> Export:
    """It stays when its job is deleted, and so do its files."""
    with services.database.statement() as session:
        row = exports.get(session, caller.tenant_id, export_id)
    return _view(row, export_id)


def _view(row: RowMapping | None, export_id: UUID) -> Export:
    if row is None:
        raise NotFound(f"There is no export {export_id}.")
    return Export(**row, partial=bool(row["options"].get("partial")))
