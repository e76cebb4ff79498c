"""Webhooks and what they are sent, each step in a transaction of its own."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from builders import Record
from fleet_builders import add_job, tenant_id

from ocrfleet.errors import CorruptFile
from ocrfleet.states import DeliveryState
from ocrfleet.store import deliveries, webhooks
from ocrfleet.store.deliveries import Attempt, Due
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.webhooks import NewWebhook

OK = Attempt(204, None, 12)
BAD = Attempt(500, "the receiver answered 500", 7)
DEAD = [NewItem(0, "ocr", "0.png", error=CorruptFile("torn"))]


def add(record: Record, *events: str, tenant: str = "default", url: str = "https://example.com/") -> UUID:
    with record.database.transaction() as session:
        tenant_ = tenant_id(session, tenant)
        return webhooks.create(session, tenant_, NewWebhook(url, events=events), actor="a key")["id"]


def ended(record: Record, **job: Any) -> UUID:
    """A job that has ended: its only item is dead from the beginning."""
    return add_job(record.database, DEAD, **job)


def sent(record: Record, webhook_id: UUID) -> list[str]:
    found = record.run(
        "SELECT event FROM webhook_deliveries WHERE webhook_id = :id ORDER BY id", id=webhook_id
    )
    return [row.event for row in found]


def lease(
    record: Record, limit: int = 100, *, each: int = 100, slots: int = 100, seconds: float = 30.0,
    busy: dict[UUID, int] | None = None,
) -> list[Due]:  # fmt: skip
    with record.database.transaction() as session:
        return deliveries.lease(session, limit, seconds, each=each, busy=busy or {}, slots=slots)


def settle(record: Record, due: Due, attempt: Attempt, state: DeliveryState, **more: Any) -> bool:
    with record.database.transaction() as session:
        return deliveries.settle(session, due, attempt, state, **more)


def change(record: Record, webhook_id: UUID, **changes: Any) -> None:
    with record.database.transaction() as session:
        webhooks.change(session, record.tenant, webhook_id, changes, actor="a key")  # type: ignore[arg-type]


def states(record: Record, webhook_id: UUID) -> Sequence[tuple[str, str | None]]:
    query = "SELECT state, error FROM webhook_deliveries WHERE webhook_id = :id ORDER BY id"
    return [(row.state, row.error) for row in record.run(query, id=webhook_id)]
