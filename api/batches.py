"""Batches as OpenAI's API has them: a file of chat completions about images becomes jobs, their results become files."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import RowMapping

from api import facade
from api.deps import GivenCaller, GivenServices, Services
from api.examples import example
from api.facade import FacadeRoute
from api.files import FILE, After, find_file
from api.idempotency import NewId
from api.problems import refused
from api.schemas import Text
from ocrfleet.errors import NotFound
from ocrfleet.states import BatchStatus
from ocrfleet.store import batches
from ocrfleet.store.batches import NewBatch
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1/batches", tags=["files and batches"], route_class=FacadeRoute)

ENDPOINT = "/v1/chat/completions"
_SECONDS = {"h": 3600, "d": 86400}
_LONGEST = 30 * 86400
BATCH: dict[str, Any] = {
    "id": "batch_0b6e8d0e5d0f4a519f0a3b0f3c6a7d11",
    "object": "batch",
    "endpoint": ENDPOINT,
    "errors": None,
    "input_file_id": FILE["id"],
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-5d0f4a519f0a3b0f3c6a7d110b6e8d0e",
    "error_file_id": None,
    "created_at": 1795165200,
    "in_progress_at": 1795165201,
    "expires_at": 1795251600,
    "finalizing_at": 1795165500,
    "completed_at": 1795165501,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 100, "completed": 100, "failed": 0},
    "metadata": {"customer": "acme"},
}
EXAMPLES: dict[str, Any] = {
    "batch": {
        "summary": "The requests of a file",
        "value": {"input_file_id": FILE["id"], "endpoint": ENDPOINT, "completion_window": "24h"},
    }
}
BatchId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MetadataName = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[Text, StringConstraints(max_length=512)]


class BatchRequest(BaseModel):
    """What is to be done; members that only theirs has are ignored."""

    input_file_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    endpoint: Literal["/v1/chat/completions"]
    completion_window: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}[hd]$")] = Field(
        "24h", description="Hours or days, at most 30 days; what is not done by then is canceled."
    )
    metadata: Annotated[dict[MetadataName, MetadataValue], Field(max_length=16)] | None = None


class BatchFault(BaseModel):
    """Why the input file is no batch."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchFaults(BaseModel):
    """All that was found, up to a hundred."""

    object: Literal["list"] = "list"
    data: list[BatchFault]


class RequestCounts(BaseModel):
    """Lines; while the batch runs, pages that have ended so far, at most as many as there are lines."""

    total: int
    completed: int
    failed: int


class Batch(BaseModel):
    """A batch and how far it is; times are seconds since 1970."""

    model_config = example(BATCH)

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str]


class BatchList(facade.Page):
    """Batches, newest first."""

    model_config = example(
        {
            "object": "list",
            "data": [BATCH],
            "first_id": BATCH["id"],
            "last_id": BATCH["id"],
            "has_more": False,
        }
    )

    data: list[Batch]


@router.post(
    "",
    summary="Begin a batch",
    responses=facade.documented("validation_failed", "not_found", "file_too_large"),
)
def create_batch(
    body: Annotated[BatchRequest, Body(openapi_examples=EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    new_id: NewId,
) -> Batch:
    """The file is read afterwards (`validating`); it becomes a job for each prompt with its parameters."""
    window = int(body.completion_window[:-1]) * _SECONDS[body.completion_window[-1]]
    if window > _LONGEST:
        detail = f"may be at most 30 days, not {body.completion_window}"
        raise refused(("/completion_window", detail), limit=_LONGEST, actual=window)
    if find_file(services, caller, body.input_file_id)["purpose"] != "batch":
        raise refused(("/input_file_id", "is not a file of the purpose 'batch'"))
    new = NewBatch(
        id=f"batch_{new_id.hex}",
        tenant_id=caller.tenant_id,
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        window=float(window),
        metadata=body.metadata or {},
    )
    with services.database.transaction() as session:
        batches.create(session, new, caller.key_id)
        row = batches.get(session, caller.tenant_id, new.id)
    return _shown(_found(row, new.id))


@router.get("", summary="List batches, newest first", responses=facade.documented("validation_failed"))
def list_batches(
    caller: GivenCaller,
    services: GivenServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: After = None,
) -> BatchList:
    """Each with how far it is."""
    with services.database.transaction() as session:
        rows = batches.listing(session, caller.tenant_id, limit=limit + 1, after=after)
    data = [_shown(row) for row in rows[:limit]]
    ids = [batch.id for batch in data] or [None]
    return BatchList(data=data, first_id=ids[0], last_id=ids[-1], has_more=len(rows) > limit)


@router.get(
    "/{batch_id}",
    summary="See how far a batch is",
    responses=facade.documented("not_found", "validation_failed"),
)
def get_batch(batch_id: BatchId, caller: GivenCaller, services: GivenServices) -> Batch:
    """When it is `completed`, `expired` or `cancelled`, its files hold what was read and what failed."""
    return _find(services, caller, batch_id)


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    responses=facade.documented("not_found", "validation_failed", "job_state_conflict"),
)
def cancel_batch(batch_id: BatchId, caller: GivenCaller, services: GivenServices) -> Batch:
    """Its jobs are canceled; it is `cancelled` when they have ended and what they had read stands in its files."""
    with services.database.transaction() as session:
        known = batches.cancel(session, caller.tenant_id, batch_id, caller.key_id)
    if not known:
        raise _missing(batch_id)
    return _find(services, caller, batch_id)


def _find(services: Services, caller: Caller, batch_id: str) -> Batch:
    with services.database.statement() as session:
        return _shown(_found(batches.get(session, caller.tenant_id, batch_id), batch_id))


def _found(row: RowMapping | None, batch_id: str) -> RowMapping:
    if row is None:
        raise _missing(batch_id)
    return row


def _missing(batch_id: str) -> NotFound:
    return NotFound(f"There is no batch {batch_id}.")


def _shown(row: RowMapping) -> Batch:
    ended = {
        f"{status}_at": _seconds(row["ended_at"]) if row["status"] == status else None
        for status in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
    }
    # A document may have more pages than its one line.
    failed = min(int(row["lost"]), row["lines"])
    counts = RequestCounts(
        total=row["lines"], completed=min(int(row["done"]), row["lines"] - failed), failed=failed
    )
    members = {name: row[name] for name in _AS_STORED}
    times = {name: _seconds(row[name]) for name in _TIMES}
    errors = BatchFaults(data=row["errors"]) if row["errors"] else None
    return Batch.model_validate(members | times | ended | {"errors": errors, "request_counts": counts})


_AS_STORED = (
    "id", "endpoint", "input_file_id", "completion_window", "status", "output_file_id", "error_file_id", "metadata",
)  # fmt: skip
_TIMES = ("created_at", "in_progress_at", "expires_at", "finalizing_at", "cancelling_at")


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())
