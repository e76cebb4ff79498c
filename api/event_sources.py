"""Event sources: the object stores that may tell of their buckets, each with a token of its own."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import RowMapping

from api import tokens
from api.answers import Time
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.idempotency import NewId
from api.problems import documented, refused
from api.schemas import Strict
from ocrfleet.errors import NotFound
from ocrfleet.store import events

router = APIRouter(prefix="/v1/event-sources", tags=["bucket events"])

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
RowId = Annotated[int, Path(ge=1, lt=2**63)]
SOURCE: dict[str, Any] = {
    "id": "3",
    "name": "minio-1",
    "created_at": "2026-11-20T09:00:00Z",
    "last_event_at": "2026-11-20T09:30:12Z",
    "quarantined": 0,
}
_NEW: dict[str, Any] = {
    "id": "3",
    "name": "minio-1",
    "created_at": "2026-11-20T09:00:00Z",
    "token": "ocre_3q2…",
    "path": "/v1/bucket-events/minio-1",
}


class SourceRequest(Strict):
    """A store that is to tell of its buckets."""

    model_config = example({"name": "minio-1"})

    name: Slug = Field(description="The last part of the address that it posts to.", examples=["minio-1"])


class NewSource(BaseModel):
    """A source with its token, which is shown here and never again."""

    model_config = example(_NEW)

    id: str
    name: str
    created_at: Time
    token: str = Field(description="To be sent as `Authorization: Bearer …`.")
    path: str


class SourceInfo(BaseModel):
    """A source, and what has come from it."""

    model_config = example(SOURCE)

    id: str
    name: str
    created_at: Time
    last_event_at: Time | None
    quarantined: int = Field(
        description="Events that could not be read: GET /v1/bucket-events?quarantined=true."
    )


class SourceList(BaseModel):
    """Sources, newest first."""

    model_config = example({"data": [SOURCE], "next_page_token": None})

    data: list[SourceInfo]
    next_page_token: str | None


@router.post(
    "",
    status_code=201,
    summary="Let a store tell of its buckets",
    responses=documented("validation_failed", "file_too_large", "forbidden"),
)
def create_event_source(
    body: SourceRequest, caller: GivenCaller, services: GivenServices, response: Response, new_id: NewId
) -> NewSource:
    """The answer has the token, of which only the SHA-256 is kept."""
    with services.database.transaction() as session:
        made = events.create_source(
            session, caller.tenant_id, body.name, actor=caller.key_id, request_id=new_id
        )
    if made is None:
        raise refused(("/name", f"{body.name!r} is the name of another source"))
    row, token = made
    response.headers["Cache-Control"] = "no-store"
    return NewSource(**_shown(row), token=token, path=f"/v1/bucket-events/{body.name}")


@router.get("", summary="List event sources", responses=documented("validation_failed", "forbidden"))
def list_event_sources(
    caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> SourceList:
    """Without their tokens."""
    before = tokens.read(page_token, int)[0] if page_token else None
    with services.database.transaction() as session:
        # One more than asked for, to know whether there is a next page.
        rows = events.sources(session, caller.tenant_id, limit=page_size + 1, before=before)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > page_size else None
    return SourceList(data=[SourceInfo(**_shown(row)) for row in shown], next_page_token=token)


@router.delete(
    "/{source_id}",
    summary="Delete an event source",
    responses=documented("not_found", "validation_failed", "forbidden"),
)
def delete_event_source(source_id: RowId, caller: GivenCaller, services: GivenServices) -> SourceInfo:
    """Its token is refused from now on, and all that it has told goes with it; jobs made of that stay."""
    with services.database.transaction() as session:
        row = events.delete_source(session, caller.tenant_id, source_id, actor=caller.key_id)
    if row is None:
        raise NotFound(f"There is no event source {source_id}.")
    return SourceInfo(**_shown(row))


def _shown(row: RowMapping) -> dict[str, Any]:
    return {**row, "id": str(row["id"])}
