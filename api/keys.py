"""API keys: who may call, for how long, and for what."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints
from sqlalchemy import RowMapping

from api import tokens
from api.answers import Time
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.idempotency import NewId
from api.problems import documented
from api.schemas import Strict, Text
from ocrfleet.errors import Forbidden, NotFound
from ocrfleet.store import keys
from ocrfleet.store.tenants import Caller, Scope

router = APIRouter(prefix="/v1/api-keys", tags=["access"])
KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
_DEFAULT = (Scope.READ, Scope.SUBMIT, Scope.OPERATE)


def _ahead(value: datetime) -> datetime:
    if value <= datetime.now(UTC):
        msg = "must lie in the future"
        raise ValueError(msg)
    return value


class KeyRequest(Strict):
    """A key to be made."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=256)] = Field(
        description="What the key is for."
    )
    scopes: list[Scope] | None = Field(
        None,
        min_length=1,
        max_length=len(Scope),
        description="Never more than your own key has; default: read, submit and operate, as far as yours has them.",
    )
    expires_at: Annotated[AwareDatetime, AfterValidator(_ahead)] | None = Field(
        None,
        description="Never later than your own key's end, which is the default; never, where yours has none.",
    )
    tenant_id: UUID | None = Field(None, description="Another tenant's key; needs the scope `fleet`.")


KEY: dict[str, Any] = {
    "id": "3f9a1c7be204",
    "name": "nightly import",
    "tenant_id": "0d4a6f2e-7f6d-4a53-9f0c-1b6a0f3c2d11",
    "tenant": "default",
    "scopes": ["read", "submit"],
    "created_at": "2026-11-20T18:00:00Z",
    "expires_at": "2027-11-20T00:00:00Z",
    "revoked_at": None,
    "last_used_at": "2026-11-20T18:04:00Z",
}
EXAMPLES: dict[str, Any] = {
    "import": {
        "summary": "A key that reads and submits, for a year",
        "value": {
            "name": "nightly import",
            "scopes": ["read", "submit"],
            "expires_at": "2027-11-20T00:00:00Z",
        },
    }
}


class ApiKey(BaseModel):
    """A key, without its secret."""

    model_config = example(KEY)

    id: str
    name: str
    tenant_id: UUID
    tenant: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="To the minute.")


class NewApiKey(ApiKey):
    """A key that was made just now."""

    model_config = example(KEY | {"last_used_at": None, "key": "ocrk_3f9a1c7be204_5d2c9e…"})

    key: str = Field(description="Shown this once: only its hash is kept.")


class ApiKeyList(BaseModel):
    """Keys, newest first."""

    model_config = example({"data": [KEY], "next_page_token": None})

    data: list[ApiKey]
    next_page_token: str | None


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    responses={
        201: {"headers": {"Location": {"description": "The key.", "schema": {"type": "string"}}}},
        **documented("not_found", "validation_failed"),
    },
)
def create_api_key(
    body: Annotated[KeyRequest, Body(openapi_examples=EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> NewApiKey:
    """The answer has the key itself, which is not kept and not shown again."""
    wanted = [str(scope) for scope in body.scopes or _DEFAULT if body.scopes or scope in caller.scopes]
    _check(caller, wanted, body.tenant_id)
    expires_at = _end(caller, body.expires_at)
    with services.database.transaction() as session:
        key, row = keys.create(
            session,
            body.tenant_id or caller.tenant_id,
            caller.key_id,
            name=body.name,
            scopes=wanted,
            expires_at=expires_at,
            request_id=new_id,
        )
    response.headers["Location"] = f"{router.prefix}/{row['id']}"
    response.headers["Cache-Control"] = "no-store"
    return NewApiKey(**row, key=key)


def _check(caller: Caller, wanted: list[str], tenant_id: UUID | None) -> None:
    """Nobody hands on what he has not."""
    if tenant_id not in (None, caller.tenant_id):
        wanted = [*wanted, Scope.FLEET]
    missing = [scope for scope in wanted if scope not in caller.scopes]
    if missing or not wanted:
        detail = f"Your key has {', '.join(caller.scopes)}; it cannot give {', '.join(missing) or 'any of that'} on."
        raise Forbidden(detail, needed=missing, scopes=list(caller.scopes))


def _end(caller: Caller, wanted: datetime | None) -> datetime | None:
    """Nor for longer than he has it."""
    own = caller.expires_at
    if own and wanted and wanted > own:
        detail = f"Your key expires at {own.astimezone(UTC).isoformat()}; it cannot give a key until {wanted.isoformat()}."
        raise Forbidden(detail, limit=own, actual=wanted)
    return wanted or own


@router.get("", summary="List keys, newest first", responses=documented("validation_failed"))
def list_api_keys(
    caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> ApiKeyList:
    """Of your tenant, those included that were revoked or have expired."""
    before: tuple[datetime, str] | None = None
    if page_token:
        created_at, key_id = tokens.read(page_token, datetime.fromisoformat, str)
        before = created_at, key_id
    with services.database.transaction() as session:
        rows = keys.listing(session, caller.tenant_id, limit=page_size + 1, before=before)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    return ApiKeyList(data=[ApiKey(**row) for row in shown], next_page_token=token)


@router.get("/{key_id}", summary="See a key", responses=documented("not_found", "validation_failed"))
def get_api_key(key_id: KeyId, caller: GivenCaller, services: GivenServices) -> ApiKey:
    """Its scopes, its end, and when it was used last."""
    with services.database.transaction() as session:
        return ApiKey(**_found(keys.get(session, caller.tenant_id, key_id), key_id))


@router.delete("/{key_id}", summary="Revoke a key", responses=documented("not_found", "validation_failed"))
def revoke_api_key(key_id: KeyId, caller: GivenCaller, services: GivenServices) -> ApiKey:
    """It is refused within five seconds, and stays in the list. Revoking twice is no error."""
    with services.database.transaction() as session:
        return ApiKey(**keys.revoke(session, caller.tenant_id, key_id, actor=caller.key_id))


def _found(row: RowMapping | None, key_id: str) -> RowMapping:
    if row is None:
        raise NotFound(f"There is no key {key_id}.")
    return row
