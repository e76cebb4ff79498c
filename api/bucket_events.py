"""Bucket events: object stores tell what was put into their buckets, and whoever runs them sees what they told."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool

from api import tokens
from api.answers import Time
from api.deps import GivenCaller, GivenServices, Services
from api.examples import example
from api.problems import documented
from ocrfleet import bucket_records
from ocrfleet.errors import Unauthenticated
from ocrfleet.store import events
from ocrfleet.store.events import Source

router = APIRouter(prefix="/v1/bucket-events", tags=["bucket events"])

EVENT: dict[str, Any] = {
    "id": "812",
    "source": "minio-1",
    "bucket": None,
    "key": None,
    "version_id": None,
    "etag": None,
    "bytes": None,
    "fault": "has no `eTag`",
    "raw": '{"eventName":"s3:ObjectCreated:Put","s3":{}}',
    "received_at": "2026-11-20T09:30:12Z",
    "handled_at": None,
}
# Only for the documentation: stores that cannot send it have other ways, see `_token`.
_source_token = HTTPBearer(scheme_name="event source", bearerFormat="ocre_<token>", auto_error=False)


class Event(BaseModel):
    """What a store has told: an object, or something that could not be read."""

    model_config = example(EVENT)

    id: str
    source: str
    bucket: str | None
    key: str | None
    version_id: str | None
    etag: str | None
    bytes: int | None
    fault: str | None = Field(description="Why it is in quarantine.")
    raw: str = Field(description="As it came, up to 64 KiB.")
    received_at: Time
    handled_at: Time | None = Field(description="When rules were applied to it.")


class EventList(BaseModel):
    """Events, newest first."""

    model_config = example({"data": [EVENT], "next_page_token": None})

    data: list[Event]
    next_page_token: str | None


@router.post(
    "/{source}",
    status_code=204,
    summary="Tell what was put into a bucket",
    dependencies=[Depends(_source_token)],
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {},
                    "example": {
                        "EventName": "s3:ObjectCreated:Put",
                        "Key": "scans/in/a.pdf",
                        "Records": [
                            {
                                "eventName": "s3:ObjectCreated:Put",
                                "s3": {
                                    "bucket": {"name": "scans"},
                                    "object": {"key": "in%2Fa.pdf", "size": 8123, "eTag": "9e107d9d372bb6826bd81d3542a419d6",
                                               "sequencer": "17A2C3"},
                                },
                            }
                        ],
                    },
                }
            },
        }
    },
    responses=documented("file_too_large", "validation_failed"),
)  # fmt: skip
async def receive_bucket_event(
    source: Annotated[str, Path(max_length=200)], request: Request, services: GivenServices
) -> Response:
    """For stores: MinIO, AWS S3 (SNS, EventBridge) and SeaweedFS. Every event of a known source is accepted.

    What can't be read is kept in quarantine; what was told before, and what makes no object, is passed over.
    """
    known = await run_in_threadpool(_authenticate, services, source, _token(request))
    body = await request.body()
    await run_in_threadpool(_keep, services, known, body)
    return Response(status_code=204)


def _token(request: Request) -> str:
    """As stores send it: a bearer token, a bare one, a password (SNS can send no header of its own), or X-Api-Key."""
    given = request.headers.get("Authorization", "")
    scheme, _, value = given.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return given or request.headers.get("X-Api-Key", "")


def _authenticate(services: Services, name: str, token: str) -> Source:
    known = None
    # A name with a NUL is nobody's, and the database would refuse it.
    if token and "\0" not in name:
        with services.database.transaction() as session:
            known = events.authenticate(session, name, token)
    if known is None:
        raise Unauthenticated("Send the token of this event source: `Authorization: Bearer ocre_…`.")
    return known


def _keep(services: Services, source: Source, body: bytes) -> None:
    found = bucket_records.read(body)
    with services.database.transaction() as session:
        events.keep(session, source, found)


@router.get("", summary="List what stores have told", responses=documented("validation_failed", "forbidden"))
def list_bucket_events(
    caller: GivenCaller,
    services: GivenServices,
    quarantined: Annotated[
        bool | None, Query(description="Only those that could not be read, or only those that could.")
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> EventList:
    """Newest first; those that need nothing any more are forgotten after `OCRFLEET_BUCKET_EVENT_DAYS`."""
    before = tokens.read(page_token, int)[0] if page_token else None
    with services.database.transaction() as session:
        # One more than asked for, to know whether there is a next page.
        rows = events.listing(
            session, caller.tenant_id, limit=page_size + 1, before=before, quarantined=quarantined
        )
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > page_size else None
    return EventList(data=[_event(row) for row in shown], next_page_token=token)


def _event(row: RowMapping) -> Event:
    raw = bytes(row["raw"]).decode("utf-8", "replace")
    members: dict[str, Any] = {**row, "id": str(row["id"]), "raw": raw}
    return Event(**members)
