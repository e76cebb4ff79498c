"""What a tenant has used, by job or day, and what that costs."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import RowMapping

from api import scopes, tokens
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.problems import documented, refused
from api.schemas import Strict
from ocrfleet.settings import Settings
from ocrfleet.store import usage
from ocrfleet.store.usage import Group

router = APIRouter(prefix="/v1/usage", tags=["access"])
_MOST_DAYS = 366
_SUMS: dict[str, Any] = {
    "pages": 1200,
    "dead": 3,
    "cached": 40,
    "bytes": 734003200,
    "prompt_tokens": 1810000,
    "output_tokens": 620000,
    "seconds": 940.2,
    "cost": 2.39,
}


class UsageQuery(Strict):
    """Which days, and how they are summed."""

    first: date | None = Field(
        None, alias="from", description="UTC day; default: the first of the last day's month."
    )
    last: date | None = Field(None, alias="to", description="UTC day, itself included; default: today.")
    group_by: Literal["job", "day", "tenant"] = Field(
        "day", description="`tenant`: of all tenants, with the scope `fleet`."
    )
    page_size: int = Field(100, ge=1, le=500)
    page_token: str | None = Field(
        None, max_length=200, description="`next_page_token` of the answer before."
    )


class Used(BaseModel):
    """Sums over pages that ended; each outcome counts once, however often the page was tried."""

    pages: int
    dead: int = Field(description="Of the pages, those that are dead letters.")
    cached: int = Field(description="Of the pages, those whose result was known.")
    bytes: int = Field(description="Of the objects, in equal parts by their pages.")
    prompt_tokens: int
    output_tokens: int
    seconds: float = Field(description="In engines.")
    cost: float = Field(
        description="At the prices of the settings; dead pages cost nothing but their tokens."
    )


class UsageRow(Used):
    """The sums of one job, day or tenant; the other two are null."""

    job_id: UUID | None = Field(
        None, description="Null by job: all pages that were read one by one (POST /v1/ocr)."
    )
    day: date | None = None
    tenant_id: UUID | None = None
    tenant: str | None = None


class Usage(BaseModel):
    """Rows in the order of what they are grouped by, and the sum of all, on whichever page."""

    model_config = example(
        {
            "data": [{**_SUMS, "job_id": None, "day": "2026-11-20", "tenant_id": None, "tenant": None}],
            "total": _SUMS,
            "next_page_token": None,
        }
    )

    data: list[UsageRow]
    total: Used
    next_page_token: str | None


_KINDS: Mapping[Group, Any] = {"job": UUID, "day": date.fromisoformat, "tenant": str}


@router.get("", summary="Sum the usage up", responses=documented("validation_failed"))
def get_usage(caller: GivenCaller, services: GivenServices, query: Annotated[UsageQuery, Query()]) -> Usage:
    """Pages are counted on the UTC day on which they ended. A job that is deleted keeps its usage."""
    everybody = query.group_by == "tenant"
    if everybody:
        scopes.check(caller, scopes.FLEET)
    tenant_id = None if everybody else caller.tenant_id
    first, last = _days(query)
    (after,) = tokens.read(query.page_token, _KINDS[query.group_by]) if query.page_token else (None,)
    with services.database.transaction() as session:
        total = usage.total(session, tenant_id, first=first, last=last)
        rows = usage.grouped(
            session, tenant_id, query.group_by, first=first, last=last, limit=query.page_size + 1, after=after
        )
    shown = rows[: query.page_size]
    token = tokens.write(shown[-1]["key"]) if len(rows) > query.page_size else None
    data = [UsageRow(**_named(query.group_by, row), **_sums(row, services.settings)) for row in shown]
    return Usage(data=data, total=Used(**_sums(total, services.settings)), next_page_token=token)


def _days(query: UsageQuery) -> tuple[date, date]:
    last = query.last or datetime.now(UTC).date()
    first = query.first or last.replace(day=1)
    days = (last - first) / timedelta(days=1) + 1
    if first > last:
        raise refused(("query:from", f"{first} is after `to`, {last}"))
    if days > _MOST_DAYS:
        detail = f"should be at most {_MOST_DAYS} days before `to`, not {days:.0f}"
        raise refused(("query:from", detail), limit=_MOST_DAYS, actual=days)
    return first, last


def _named(group: Group, row: RowMapping) -> dict[str, Any]:
    if group == "tenant":
        return {"tenant": row["key"], "tenant_id": row["tenant_id"]}
    if group == "job":
        return {"job_id": None if row["key"] == usage.NO_JOB else row["key"]}
    return {"day": row["key"]}


def _sums(row: RowMapping, settings: Settings) -> dict[str, Any]:
    tokens_used = row["prompt_tokens"] + row["output_tokens"]
    cost = (row["pages"] - row["dead"]) / 1000 * settings.price_per_1000_pages
    cost += tokens_used / 1_000_000 * settings.price_per_million_tokens
    counted = {name: row[name] for name in _SUMS if name != "cost"}
    return counted | {"seconds": round(row["seconds"], 3), "cost": round(cost, 6)}
