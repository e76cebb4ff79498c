"""What a job would be: its items counted, its first faults, how long it would take and what it would cost."""

import time
from contextlib import closing
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.deps import Services
from api.examples import example
from ocrfleet.inputs import permitted, read
from ocrfleet.rights import Rights
from ocrfleet.store import lanes, workers
from ocrfleet.store.expansion import Expansion, NewItem

SECONDS = 5.0
"""After which what has been seen has to do."""
MAX_ERRORS = 100
_CHUNK = 500
ESTIMATE: dict[str, Any] = {
    "complete": False,
    "items": {"seen": 100000, "estimated": 1000000, "to_count": 1200, "invalid": 3},
    "pages": {"at_least": 98797},
    "errors": [
        {"line": 17, "key": "line 17", "code": "manifest_invalid", "detail": "line 17 is not JSON: …"}
    ],
    "seconds": 2427.2,
    "seconds_reason": None,
    "cost": 10.0,
}


class ItemEstimate(BaseModel):
    """Inputs: looked at, and all together where that can be told."""

    seen: int
    estimated: int | None
    to_count: int = Field(
        description="Of those seen, documents and archives, whose pages only their content tells."
    )
    invalid: int


class PageEstimate(BaseModel):
    """Pages: at least one of every item seen."""

    at_least: int


class ItemFault(BaseModel):
    """An input that would be a dead letter from the start."""

    line: int | None = Field(description="Of the manifest, from 1.")
    key: str
    code: str
    detail: str


class Estimate(BaseModel):
    """What the job would be, were it submitted now. Nothing was made, and no object was opened."""

    model_config = example(ESTIMATE)

    complete: bool = Field(description="The whole input was looked at; false: its beginning.")
    items: ItemEstimate
    pages: PageEstimate
    errors: list[ItemFault] = Field(description=f"The first {MAX_ERRORS}.")
    seconds: float | None = Field(
        description="For all items at a page each, behind what waits already, at the speed of the last minute."
    )
    seconds_reason: str | None = Field(description="Why that cannot be told.")
    cost: float | None = Field(
        description="Of all items at a page each, at the fleet's price per 1,000 pages."
    )


def estimate(
    services: Services, rights: Rights, given: dict[str, Any], options: dict[str, Any], task: str
) -> Estimate:
    """Read the input for at most `SECONDS` and `validate_max_items`; errors of the input as a whole are raised."""
    seen = to_count = invalid = 0
    faults: list[ItemFault] = []
    part: float | None = None
    complete, until = False, time.monotonic() + SECONDS
    expansion = Expansion(UUID(int=0), given, options, {}, task, tenant_id=rights.tenant_id)
    limit = services.settings.validate_max_items
    with closing(read(services.blobs, expansion, _CHUNK)) as chunks:
        for chunk in chunks:
            items = permitted(chunk.items, expansion, rights)
            broken = [item for item in items if item.error is not None]
            seen += len(items)
            to_count += sum(item.countable for item in items)
            invalid += len(broken)
            faults += [_fault(item, given) for item in broken[: MAX_ERRORS - len(faults)]]
            complete, part = chunk.last, chunk.part
            if complete or seen >= limit or time.monotonic() >= until:
                break
    whole = seen if complete else round(seen / part) if part else None
    seconds, reason = _seconds(services, whole)
    price = services.settings.price_per_1000_pages
    return Estimate(
        complete=complete,
        items=ItemEstimate(seen=seen, estimated=whole, to_count=to_count, invalid=invalid),
        pages=PageEstimate(at_least=seen - invalid),
        errors=faults,
        seconds=seconds,
        seconds_reason=reason,
        cost=None if whole is None else round(whole * price / 1000, 4),
    )


def _fault(item: NewItem, given: dict[str, Any]) -> ItemFault:
    line = item.ordinal + 1 if given["type"] == "manifest" else None
    code, detail = (item.error.code, item.error.detail) if item.error else ("", "")
    return ItemFault(line=line, key=item.key, code=code, detail=detail)


def _seconds(services: Services, items: int | None) -> tuple[float | None, str | None]:
    if items is None:
        return None, "the input is longer than what was looked at, and nothing tells how long"
    with services.database.transaction() as session:
        fleet = workers.fleet(session, services.settings.heartbeat_timeout)
        waiting = sum(lane.pages for lane in lanes.backlog(session).values())
    rate = sum(row["pages_per_second"] for row in fleet if row["alive"])
    if not rate:
        return None, "no worker is reading pages now, so that nobody knows how fast they do"
    return round((items + waiting) / rate, 1), None
