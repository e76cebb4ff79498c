"""What the caller's tenant may use, and what is left of it."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.answers import Time
from api.caches import Liveness
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.problems import documented
from api.rates import Window
from ocrfleet.errors import RateLimited
from ocrfleet.store import quotas

router = APIRouter(prefix="/v1/quota", tags=["access"])
_MIDNIGHT = "2026-11-21T00:00:00Z"
_EXAMPLE: dict[str, Any] = {
    "pages_per_day": {"limit": 500000, "used": 1200, "left": 498800, "resets_at": _MIDNIGHT},
    "bytes_per_day": {"limit": None, "used": 734003200, "left": None, "resets_at": _MIDNIGHT},
    "jobs_open": {"limit": 20, "used": 23, "left": 0, "resets_at": None},
    "requests_per_minute": {"limit": 600, "used": 4, "left": 596, "resets_at": "2026-11-20T18:05:00Z"},
}


class Limit(BaseModel):
    """One limit and how far it is used."""

    limit: int | None = Field(description="Null: none.")
    used: int | None = Field(description="Null where nothing counts it.")
    left: int | None
    resets_at: Time | None


class Quota(BaseModel):
    """Work over a quota waits: its jobs say `quota: …` in `blocked_on`. Requests over theirs are refused (429)."""

    model_config = example(_EXAMPLE)

    pages_per_day: Limit = Field(description="Pages that ended this UTC day, with a result or dead.")
    bytes_per_day: Limit = Field(description="Bytes of the objects that were read for them.")
    jobs_open: Limit = Field(description="Unfinished jobs; those over the limit wait for one to end.")
    requests_per_minute: Limit


@router.get("", summary="See what is left", responses=documented())
def get_quota(request: Request, caller: GivenCaller, services: GivenServices) -> Quota:
    """Of the caller's own tenant."""
    with services.database.transaction() as session:
        row = quotas.standing(session, caller.tenant_id)
    window: Window | None = getattr(request.state, "window", None)
    return Quota(
        pages_per_day=_limit(row["pages_per_day"], row["pages"], row["resets_at"]),
        bytes_per_day=_limit(row["bytes_per_day"], row["bytes"], row["resets_at"]),
        jobs_open=_limit(row["jobs_open"], row["open"], None),
        requests_per_minute=_limit(
            row["requests_per_minute"],
            window.asked if window else None,
            row["at"] + timedelta(seconds=window.reset) if window else None,
        ),
    )


def check_day(live: Liveness, tenant_id: UUID) -> None:
    """Raise RateLimited while a daily quota of the tenant's is used up, as it was known some three seconds ago."""
    blocked = live.blocked.get(tenant_id)
    day = blocked.day if blocked else None
    seconds = math.ceil((day.resets_at - datetime.now(UTC)).total_seconds()) if day else 0
    # What was known before midnight says nothing of the new day.
    if day is None or seconds <= 0:
        return
    detail = (
        f"Your tenant's quota {day.name} is {day.limit}, and {day.used} are used; it starts anew at "
        f"{day.resets_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}."
    )
    raise RateLimited(detail, quota=day.name, limit=day.limit, actual=day.used, retry_after=seconds)


def _limit(limit: int | None, used: int | None, resets_at: Any) -> Limit:  # noqa: ANN401 (a column)
    left = None if limit is None else max(0, limit - (used or 0))
    return Limit(limit=limit, used=used, left=left, resets_at=resets_at)
