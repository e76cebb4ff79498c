"""Webhooks: where a tenant is told of what has ended, how that went, and sending it again."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from uuid import UUID, uuid4

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import AwareDatetime, Field, StringConstraints
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool

from api import tokens
from api import webhook_answers as answers
from api.deps import GivenCaller, GivenServices, Services
from api.idempotency import NewId
from api.problems import documented, refused
from api.schemas import Name, Strict, Text
from ocrfleet.outbound import UrlRefused
from ocrfleet.states import DeliveryState
from ocrfleet.store import deliveries, webhooks
from ocrfleet.store.webhooks import Changes, NewWebhook
from ocrfleet.webhooks import sign

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
MOST = 50
"""Webhooks of one tenant."""
_EXCERPT = 500
Event = Literal[
    "job.completed", "job.failed", "job.canceled", "export.completed", "export.failed", "webhook.test"
]
Events = Annotated[
    list[Event],
    Field(
        max_length=16,
        description="What it is sent; empty: all. With `webhook.test` alone it is sent what jobs say that name it.",
    ),
]
Url = Annotated[Text, StringConstraints(min_length=1, max_length=2048)]
Token = Annotated[str | None, Query(max_length=200, description="`next_page_token` of the answer before.")]
DeliveryId = Annotated[int, Path(ge=1, lt=2**63)]
_NOT_FOUND = documented("not_found", "validation_failed")
_LOCATION = {"headers": {"Location": {"description": "The webhook.", "schema": {"type": "string"}}}}
EXAMPLES: dict[str, Any] = {
    "jobs": {
        "summary": "Every end of a job",
        "value": {
            "url": answers.WEBHOOK["url"],
            "events": ["job.completed", "job.failed", "job.canceled"],
            "description": "the archive",
        },
    }
}
CHANGES: dict[str, Any] = {"again": {"summary": "Enable it again", "value": {"enabled": True}}}
REPLAY: dict[str, Any] = {
    "failed": {"summary": "What failed in an outage", "value": {"since": "2026-11-20T09:00:00Z"}}
}


class WebhookRequest(Strict):
    """A receiver."""

    url: Url = Field(description="https://, at a public address.")
    description: Name | None = None
    events: Events = Field(default_factory=list[Event])


class WebhookChanges(Strict):
    """What is not named stays."""

    url: Url | None = None
    description: Name | None = None
    events: Events | None = None
    enabled: bool | None = Field(default=None, strict=True)


class ReplayRequest(Strict):
    """Which deliveries are sent again, by when they were made and how they stand."""

    since: AwareDatetime
    until: AwareDatetime | None = None
    state: Literal["failed", "delivered"] = "failed"


@router.post(
    "",
    status_code=201,
    summary="Add a webhook",
    responses={201: _LOCATION, **documented("validation_failed")},
)
async def create_webhook(
    body: Annotated[WebhookRequest, Body(openapi_examples=EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> answers.WebhookSecret:
    """The answer shows its secret, once: with it the receiver verifies what it is sent (docs/webhooks.md)."""
    await _check_url(services, body.url)

    def create() -> RowMapping:
        with services.database.transaction() as session:
            has = webhooks.count(session, caller.tenant_id)
            if made := webhooks.find(session, caller.tenant_id, new_id):
                return made
            if has >= MOST:
                raise refused(("", f"a tenant has at most {MOST} webhooks"), limit=MOST, actual=has)
            new = NewWebhook(body.url, body.description, body.events)
            return webhooks.create(session, caller.tenant_id, new, actor=caller.key_id, webhook_id=new_id)

    row = await run_in_threadpool(create)
    response.headers["Location"] = f"{router.prefix}/{row['id']}"
    response.headers["Cache-Control"] = "no-store"
    return answers.WebhookSecret(**row)


@router.get("", summary="List webhooks, newest first", responses=documented("validation_failed"))
def list_webhooks(
    caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Token = None,
) -> answers.WebhookList:
    """Without their secrets."""
    before: tuple[datetime, UUID] | None = None
    if page_token:
        created_at, webhook_id = tokens.read(page_token, datetime.fromisoformat, UUID)
        before = created_at, webhook_id
    with services.database.transaction() as session:
        rows = webhooks.listing(session, caller.tenant_id, limit=page_size + 1, before=before)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    return answers.WebhookList(data=[answers.Webhook(**row) for row in shown], next_page_token=token)


@router.get("/{webhook_id}", summary="See a webhook", responses=_NOT_FOUND)
def get_webhook(webhook_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Webhook:
    """Without its secret."""
    with services.database.transaction() as session:
        return answers.Webhook(**webhooks.get(session, caller.tenant_id, webhook_id))


@router.patch("/{webhook_id}", summary="Change a webhook", responses=_NOT_FOUND)
async def update_webhook(
    webhook_id: UUID,
    body: Annotated[WebhookChanges, Body(openapi_examples=CHANGES)],
    caller: GivenCaller,
    services: GivenServices,
) -> answers.Webhook:
    """What waits for one that is disabled has failed; when it is enabled again, `replay` sends it."""
    given = body.model_dump(exclude_unset=True)
    for name in given.keys() - {"description"}:
        if given[name] is None:
            raise refused((f"/{name}", "must not be null"))
    if body.url is not None:
        await _check_url(services, body.url)

    def change() -> RowMapping:
        with services.database.transaction() as session:
            changes = cast("Changes", given)
            return webhooks.change(session, caller.tenant_id, webhook_id, changes, actor=caller.key_id)

    return answers.Webhook(**await run_in_threadpool(change))


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", responses=_NOT_FOUND)
def delete_webhook(webhook_id: UUID, caller: GivenCaller, services: GivenServices) -> None:
    """Its deliveries go with it."""
    with services.database.transaction() as session:
        webhooks.delete(session, caller.tenant_id, webhook_id, actor=caller.key_id)


@router.post("/{webhook_id}/rotate-secret", summary="Give it a new secret", responses=_NOT_FOUND)
def rotate_webhook_secret(
    webhook_id: UUID, caller: GivenCaller, services: GivenServices, response: Response
) -> answers.WebhookSecret:
    """For 24 hours each message is signed by the old one too."""
    with services.database.transaction() as session:
        row = webhooks.rotate(session, caller.tenant_id, webhook_id, actor=caller.key_id)
    response.headers["Cache-Control"] = "no-store"
    return answers.WebhookSecret(**row)


@router.post("/{webhook_id}/test", summary="Send it a `webhook.test` now", responses=_NOT_FOUND)
async def test_webhook(webhook_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Trial:
    """Also to one that is disabled. The answer comes when the receiver's does, or after the timeout of a delivery."""

    def read() -> RowMapping:
        with services.database.transaction() as session:
            return webhooks.get(session, caller.tenant_id, webhook_id)

    row = await run_in_threadpool(read)
    message_id = f"test-{uuid4().hex}"
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    payload = {"type": webhooks.TEST, "timestamp": now, "data": {"webhook_id": str(webhook_id)}}
    body = deliveries.body(payload)
    secrets = [secret for secret in (row["secret"], row["previous_secret"]) if secret]
    headers = deliveries.HEADERS | sign(secrets, message_id, int(time.time()), body)
    answer = await services.outbound.post(row["url"], headers, body, excerpt=_EXCERPT)
    return answers.Trial(
        delivered=answer.is_success,
        message_id=message_id,
        status=answer.status,
        error=answer.fault,
        milliseconds=answer.milliseconds,
        body=answer.body,
    )


@router.get("/{webhook_id}/deliveries", summary="List what it was sent, newest first", responses=_NOT_FOUND)
def list_deliveries(
    webhook_id: UUID,
    caller: GivenCaller,
    services: GivenServices,
    state: DeliveryState | None = None,
    event: Event | None = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Token = None,
) -> answers.DeliveryList:
    """Those that are finished are kept for 30 days."""
    before: int | None = tokens.read(page_token, _identity)[0] if page_token else None
    with services.database.transaction() as session:
        webhooks.get(session, caller.tenant_id, webhook_id)
        rows = deliveries.listing(
            session, webhook_id, limit=page_size + 1, before=before, state=state, event=event
        )
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > page_size else None
    return answers.DeliveryList(data=[_delivery(row) for row in shown], next_page_token=token)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send one again",
    responses=documented("not_found", "job_state_conflict", "validation_failed"),
)
def replay_delivery(
    webhook_id: UUID, delivery_id: DeliveryId, caller: GivenCaller, services: GivenServices
) -> answers.Delivery:
    """Under the same `webhook-id`, with all its tries before it."""
    with services.database.transaction() as session:
        row = deliveries.replay(session, caller.tenant_id, webhook_id, delivery_id, actor=caller.key_id)
    return _delivery(row)


@router.post(
    "/{webhook_id}/replay",
    status_code=202,
    summary="Send again what failed in some time",
    responses=documented("not_found", "job_state_conflict", "validation_failed"),
)
def replay_deliveries(
    webhook_id: UUID,
    body: Annotated[ReplayRequest, Body(openapi_examples=REPLAY)],
    caller: GivenCaller,
    services: GivenServices,
) -> answers.Replayed:
    """Each under its own `webhook-id`, which the receiver may know."""
    with services.database.transaction() as session:
        replayed = deliveries.replay_all(
            session,
            caller.tenant_id,
            webhook_id,
            since=body.since,
            until=body.until,
            state=DeliveryState(body.state),
            actor=caller.key_id,
        )
    return answers.Replayed(replayed=replayed)


async def _check_url(services: Services, url: str) -> None:
    """Raise ValidationFailed for what is not called; asked again at each delivery."""
    try:
        await services.outbound.check(url)
    except UrlRefused as exc:
        raise refused(("/url", str(exc))) from exc


def _delivery(row: RowMapping) -> answers.Delivery:
    members: dict[str, Any] = {**row, "id": str(row["id"])}
    return answers.Delivery(**members)


def _identity(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 2**63:
        raise ValueError(value)
    return value
