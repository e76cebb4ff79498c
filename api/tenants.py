"""Tenants: their share of the fleet and what they may use. For whoever runs the fleet."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from api import tokens
from api.answers import Time
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.idempotency import NewId
from api.problems import documented
from api.schemas import Strict, Text
from ocrfleet.errors import NotFound
from ocrfleet.rights import MAX_RIGHTS, misnamed
from ocrfleet.store import tenants

router = APIRouter(prefix="/v1/tenants", tags=["access"])
_MOST = 2**53
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Weight = Annotated[
    float,
    Field(
        gt=0, le=1_000_000, allow_inf_nan=False, description="Its share of a busy fleet, beside the others'."
    ),
]
TENANT: dict[str, Any] = {
    "id": "0d4a6f2e-7f6d-4a53-9f0c-1b6a0f3c2d11",
    "name": "archive",
    "weight": 2.0,
    "pages_per_day": 500000,
    "bytes_per_day": None,
    "jobs_open": 20,
    "requests_per_minute": 600,
    "buckets": ["scans", "archive/2026/"],
    "created_at": "2026-11-20T18:00:00Z",
}


def _right(value: str) -> str:
    if fault := misnamed(value):
        raise ValueError(fault)
    return value


class TenantLimits(Strict):
    """What a tenant may use; null: no limit. Work over a quota waits, and does not fail."""

    pages_per_day: int | None = Field(None, ge=0, le=_MOST, strict=True, description="By UTC day.")
    bytes_per_day: int | None = Field(
        None, ge=0, le=_MOST, strict=True, description="Of the objects read, by UTC day."
    )
    jobs_open: int | None = Field(
        None, ge=1, le=2**31 - 1, strict=True, description="Unfinished jobs that go on at once."
    )
    requests_per_minute: int | None = Field(None, ge=1, le=2**31 - 1, strict=True)
    buckets: list[Annotated[Text, AfterValidator(_right)]] | None = Field(
        None,
        max_length=MAX_RIGHTS,
        description="What it may read and write: `bucket`, or `bucket/prefix` of which every key may have that begins so. "
        "Null: every bucket. Its uploads and its exports' default place are its own whatever stands here.",
    )


class TenantRequest(TenantLimits):
    """A tenant to be made."""

    name: TenantName
    weight: Weight = 1.0


class TenantChanges(TenantLimits):
    """What is to be different; members that are not there stay as they are, null takes a limit away."""

    weight: Weight = 1.0


class Tenant(BaseModel):
    """A tenant with its limits."""

    model_config = example(TENANT)

    id: UUID
    name: str
    weight: float
    pages_per_day: int | None
    bytes_per_day: int | None
    jobs_open: int | None
    requests_per_minute: int | None
    buckets: list[str] | None
    created_at: Time


class TenantList(BaseModel):
    """Tenants by name."""

    model_config = example({"data": [TENANT], "next_page_token": None})

    data: list[Tenant]
    next_page_token: str | None


NEW: dict[str, Any] = {
    "archive": {
        "summary": "Twice the share, half a million pages a day",
        "value": {"name": "archive", "weight": 2, "pages_per_day": 500000, "requests_per_minute": 600},
    }
}
CHANGES: dict[str, Any] = {
    "buckets": {
        "summary": "One bucket, and a year of another",
        "value": {"buckets": ["scans", "archive/2026/"]},
    },
    "more": {
        "summary": "More pages a day, any number of jobs",
        "value": {"pages_per_day": 1000000, "jobs_open": None},
    },
}


@router.post(
    "",
    status_code=201,
    summary="Make a tenant",
    responses={
        201: {"headers": {"Location": {"description": "The tenant.", "schema": {"type": "string"}}}},
        **documented("validation_failed", "job_state_conflict"),
    },
)
def create_tenant(
    body: Annotated[TenantRequest, Body(openapi_examples=NEW)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> Tenant:
    """Its first key is made by POST /v1/api-keys with its `tenant_id`. 409 where the name is taken."""
    limits = body.model_dump(include=set(tenants.LIMITS))
    with services.database.transaction() as session:
        by = caller.tenant_id, caller.key_id
        tenant_id = tenants.create(
            session,
            body.name,
            weight=body.weight,
            limits=limits,
            buckets=body.buckets,
            by=by,
            tenant_id=new_id,
        )
        row = tenants.get(session, tenant_id)
    response.headers["Location"] = f"{router.prefix}/{tenant_id}"
    return Tenant.model_validate(dict(row or {}))


@router.get("", summary="List tenants by name", responses=documented("validation_failed"))
def list_tenants(
    _caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> TenantList:
    """All of them."""
    (after,) = tokens.read(page_token, str) if page_token else ("",)
    with services.database.transaction() as session:
        rows = tenants.listing(session, limit=page_size + 1, after=after)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["name"]) if len(rows) > page_size else None
    return TenantList(data=[Tenant(**row) for row in shown], next_page_token=token)


@router.get("/{tenant_id}", summary="See a tenant", responses=documented("not_found", "validation_failed"))
def get_tenant(tenant_id: UUID, _caller: GivenCaller, services: GivenServices) -> Tenant:
    """Its weight and its limits; what it has used of them, GET /v1/quota tells itself."""
    with services.database.transaction() as session:
        row = tenants.get(session, tenant_id)
    if row is None:
        raise NotFound(f"There is no tenant {tenant_id}.")
    return Tenant(**row)


@router.patch(
    "/{tenant_id}", summary="Change a tenant", responses=documented("not_found", "validation_failed")
)
def change_tenant(
    tenant_id: UUID,
    body: Annotated[TenantChanges, Body(openapi_examples=CHANGES)],
    caller: GivenCaller,
    services: GivenServices,
) -> Tenant:
    """Quotas and weight hold from the next second on, the rate of requests and buckets within five."""
    changes = body.model_dump(exclude_unset=True)
    with services.database.transaction() as session:
        row = tenants.change(session, tenant_id, changes, by=(caller.tenant_id, caller.key_id))
    return Tenant(**row)
