"""Deliveries: the outbox of webhooks. What ends puts its messages here in its own transaction; producers send them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.errors import JobStateConflict, NotFound
from ocrfleet.states import DeliveryState
from ocrfleet.store import audit, webhooks
from ocrfleet.store.notify import DELIVER, notify

HEADERS = {"content-type": "application/json", "user-agent": "OCR-Fleet-Webhooks/1"}
"""Of every message, besides those that sign it."""
_PER_TENANT = 0.5
"""Of a producer's slots; what one tenant's dead receivers can hold."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that this producer has leased, until then; `secrets` sign it, the current one first."""

    id: int
    webhook_id: UUID
    tenant_id: UUID
    url: str
    secrets: Sequence[str]
    message_id: str
    payload: Mapping[str, Any]
    attempts: int
    """Before this one."""
    created_at: datetime
    leased_until: datetime

    @property
    def body(self) -> bytes:
        """What is signed and sent: the same bytes each time."""
        return body(self.payload)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one sending went."""

    status: int | None
    error: str | None
    milliseconds: int


def body(payload: Mapping[str, Any]) -> bytes:
    """A message as it is sent."""
    return orjson.dumps({name: payload[name] for name in ("type", "timestamp", "data")})


# A webhook that is being deleted is waited for, and gone: its message must not fail the transaction of the job's end.
_INSERT = """
INSERT INTO webhook_deliveries (webhook_id, message_id, event, payload)
SELECT w.id, {message}, {event}, jsonb_build_object('type', {event}, 'timestamp',
       to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', {data})
FROM {source} JOIN webhooks w ON w.tenant_id = j.tenant_id AND w.enabled
     AND (w.events = '{{}}' OR {event} = ANY(w.events) OR w.id = ANY(j.webhook_ids))
WHERE {where} FOR KEY SHARE OF w
ON CONFLICT (webhook_id, message_id) DO NOTHING
RETURNING 1"""
# A message's id has no dots: they part what is signed.
_JOB_ENDED = _INSERT.format(
    message="concat_ws('-', j.id, j.generation, j.state)",
    event="('job.' || j.state)",
    at="j.finished_at",
    data="""jsonb_build_object(
        'job_id', j.id, 'generation', j.generation, 'state', j.state, 'outcome', j.outcome, 'task', j.task,
        'labels', j.labels, 'error', j.error, 'created_at', j.created_at, 'finished_at', j.finished_at,
        'counts', jsonb_build_object('items', j.items_total, 'total', j.total, 'succeeded', j.succeeded,
                                     'dead', j.dead, 'canceled', j.canceled),
        'links', jsonb_build_object('job', '/v1/jobs/' || j.id, 'results', '/v1/jobs/' || j.id || '/results'))""",
    source="jobs j",
    where="j.id = ANY(:ids) AND j.lane = 'bulk' AND j.finished_at IS NOT NULL",
)
_EXPORT_ENDED = _INSERT.format(
    message="concat_ws('-', x.id, x.state)",
    event="('export.' || x.state)",
    at="x.finished_at",
    data="""jsonb_build_object(
        'export_id', x.id, 'job_id', x.job_id, 'format', x.format, 'state', x.state, 'bucket', x.bucket,
        'prefix', x.prefix, 'error', x.error, 'created_at', x.created_at, 'finished_at', x.finished_at,
        'counts', jsonb_build_object('items', x.items, 'failed', x.failed, 'bytes', x.bytes),
        'links', jsonb_build_object('job', '/v1/jobs/' || x.job_id))""",
    source="exports x JOIN jobs j ON j.id = x.job_id",
    where="x.id = ANY(:ids) AND x.finished_at IS NOT NULL",
)


def jobs_ended(session: Session, job_ids: Sequence[UUID]) -> None:
    """Tell of jobs that end in this transaction, once for each generation; nobody waits for interactive ones here."""
    _insert(session, _JOB_ENDED, job_ids)


def exports_ended(session: Session, export_ids: Sequence[UUID]) -> None:
    """Tell of exports that end in this transaction."""
    _insert(session, _EXPORT_ENDED, export_ids)


def _insert(session: Session, query: str, ids: Sequence[UUID]) -> None:
    if ids and session.execute(text(query), {"ids": list(ids)}).all():
        notify(session, DELIVER)


# Each webhook gives its oldest few, the tenants take turns: a dead receiver holds only its own slots.
_LEASE = text("""
WITH busy AS (
    SELECT w.id, w.tenant_id, b.n
    FROM unnest(CAST(:busy AS uuid[]), CAST(:counts AS integer[])) AS b(id, n) JOIN webhooks w USING (id)
), waiting AS (
    SELECT d.id, d.next_at, row_number() OVER (PARTITION BY w.tenant_id ORDER BY d.nth, d.next_at, d.id)
           + coalesce((SELECT sum(n) FROM busy WHERE tenant_id = w.tenant_id), 0) AS turn
    FROM webhooks w CROSS JOIN LATERAL (
        SELECT x.id, x.next_at, row_number() OVER (ORDER BY x.next_at, x.id) AS nth FROM webhook_deliveries x
        WHERE x.webhook_id = w.id AND x.state = 'waiting' AND x.next_at <= now()
          AND (x.leased_until IS NULL OR x.leased_until <= now())
        ORDER BY x.next_at, x.id
        LIMIT greatest(CAST(:each AS integer) - coalesce((SELECT n FROM busy WHERE busy.id = w.id), 0), 0)
    ) d
    WHERE w.enabled
), chosen AS (
    SELECT d.id FROM webhook_deliveries d JOIN waiting USING (id)
    WHERE waiting.turn <= :tenant AND d.state = 'waiting' AND (d.leased_until IS NULL OR d.leased_until <= now())
    ORDER BY waiting.turn, waiting.next_at LIMIT :limit FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE webhook_deliveries d SET leased_until = clock_timestamp() + make_interval(secs => :seconds)
FROM chosen, webhooks w WHERE d.id = chosen.id AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, w.tenant_id, w.url,
    array_remove(ARRAY[w.secret, CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END], NULL),
    d.message_id, d.payload, d.attempts, d.created_at, d.leased_until
""")


def lease(
    session: Session, limit: int, seconds: float, *, each: int, busy: Mapping[UUID, int], slots: int
) -> list[Due]:
    """Take messages to send: of a webhook at most `each`, with those of it that are being sent (`busy`).

    One tenant gets half of the `slots` at most. What is not settled within `seconds` is due again.
    """
    values = {
        "busy": list(busy),
        "counts": list(busy.values()),
        "each": each,
        "tenant": max(1, int(slots * _PER_TENANT)),
        "limit": limit,
        "seconds": seconds,
    }
    return [Due(*row) for row in session.execute(_LEASE, values)]


def settle(
    session: Session, due: Due, attempt: Attempt, state: DeliveryState, *, retry_in: float = 0.0
) -> bool:
    """Write down how it went; False, and nothing is written, for a lease that has run out and is another's now."""
    query = """
        UPDATE webhook_deliveries SET state = :state, attempts = attempts + 1, status = :status, error = :error,
               milliseconds = :milliseconds, leased_until = NULL,
               next_at = CASE WHEN :state = 'waiting' THEN now() + make_interval(secs => :retry_in) ELSE next_at END,
               delivered_at = CASE WHEN :state = 'delivered' THEN now() END
        WHERE id = :id AND leased_until = :lease AND state = 'waiting' RETURNING 1"""
    values = {
        "id": due.id,
        "lease": due.leased_until,
        "state": state.value,
        "retry_in": retry_in,
        "status": attempt.status,
        "error": attempt.error,
        "milliseconds": attempt.milliseconds,
    }
    return session.execute(text(query), values).scalar() is not None


_COLUMNS = "id, webhook_id, message_id, event, payload, state, attempts, next_at, status, error, milliseconds, created_at, delivered_at"


def listing(
    session: Session,
    webhook_id: UUID,
    *,
    limit: int,
    before: int | None = None,
    state: DeliveryState | None = None,
    event: str | None = None,
) -> Sequence[RowMapping]:
    """A webhook's deliveries, newest first, from the one after `before` (an id)."""
    clauses = [f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE webhook_id = :webhook"]
    values: dict[str, Any] = {"webhook": webhook_id, "limit": limit}
    for clause, name, value in (
        ("AND id < :before", "before", before),
        ("AND state = :state", "state", state),
        ("AND event = :event", "event", event),
    ):
        if value is not None:
            clauses.append(clause)
            values[name] = value
    clauses.append("ORDER BY id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


_AGAIN = """
UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, next_at = now(), delivered_at = NULL"""


def replay(
    session: Session, tenant_id: UUID, webhook_id: UUID, delivery_id: int, *, actor: str
) -> RowMapping:
    """Send one again under the same message id, with all its tries before it. NotFound, or JobStateConflict."""
    _refuse_disabled(session, tenant_id, webhook_id)
    query = f"{_AGAIN} WHERE webhook_id = :webhook AND id = :id RETURNING {_COLUMNS}"
    values = {"webhook": webhook_id, "id": delivery_id}
    row = session.execute(text(query), values).mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id} of this webhook.")
    _replayed(session, tenant_id, actor, webhook_id, delivery=delivery_id)
    return row


def replay_all(
    session: Session,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    since: datetime,
    until: datetime | None,
    state: DeliveryState,
    actor: str,
) -> int:
    """Send again what was made in that time and stands so; returns how many. NotFound, or JobStateConflict."""
    _refuse_disabled(session, tenant_id, webhook_id)
    query = f"""
        {_AGAIN} WHERE id IN (
            SELECT id FROM webhook_deliveries
            WHERE webhook_id = :webhook AND state = :state AND created_at >= :since
              AND created_at < coalesce(CAST(:until AS timestamptz), 'infinity')
            ORDER BY id FOR NO KEY UPDATE)"""
    values = {"webhook": webhook_id, "since": since, "until": until, "state": state.value}
    replayed = session.connection().execute(text(query), values).rowcount
    _replayed(
        session, tenant_id, actor, webhook_id, since=since, until=until, state=state, deliveries=replayed
    )
    return replayed


def _refuse_disabled(session: Session, tenant_id: UUID, webhook_id: UUID) -> None:
    if not webhooks.get(session, tenant_id, webhook_id)["enabled"]:
        raise JobStateConflict("The webhook is disabled: enable it first, then replay.", state="disabled")


def _replayed(session: Session, tenant_id: UUID, actor: str, webhook_id: UUID, **detail: Any) -> None:
    audit.record(session, tenant_id, actor, "webhooks.replay", webhooks.subject(webhook_id), **detail)
    notify(session, DELIVER)


def expire(session: Session, seconds: float, limit: int = 1000) -> int:
    """Forget some of those that are older and wait for nothing; returns how many. Any number may do so at once."""
    query = """
        DELETE FROM webhook_deliveries WHERE id IN (
            SELECT id FROM webhook_deliveries
            WHERE created_at < now() - make_interval(secs => :seconds)
              AND (state <> 'waiting' OR next_at < now() - make_interval(secs => :seconds))
            ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED)"""
    return session.connection().execute(text(query), {"seconds": seconds, "limit": limit}).rowcount
