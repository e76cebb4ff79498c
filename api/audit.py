"""Who did what to which job, key or tenant."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from api import tokens
from api.answers import Time
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.problems import documented
from api.schemas import Strict, Text
from ocrfleet.store import audit

router = APIRouter(prefix="/v1/audit", tags=["access"])
_Word = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
ACT: dict[str, Any] = {
    "id": "812",
    "at": "2026-11-20T18:02:11Z",
    "actor": "3f9a1c7be204",
    "act": "keys.revoke",
    "subject": "key:77ab01f3c9de",
    "detail": {},
}


class AuditQuery(Strict):
    """Which acts; what is not named fits."""

    actor: _Word | None = Field(
        None, description="The API key's id; `shell` for the command line at the database."
    )
    act: _Word | None = None
    subject: _Word | None = Field(None, description="`job:<id>`, `key:<id>`, `tenant:<id>`…")
    since: AwareDatetime | None = None
    page_size: int = Field(50, ge=1, le=500)
    page_token: str | None = Field(
        None, max_length=200, description="`next_page_token` of the answer before."
    )


class Act(BaseModel):
    """Something that somebody did."""

    id: str
    at: Time
    actor: str = Field(description="The API key's id.")
    act: str
    subject: str
    detail: dict[str, Any]


class ActList(BaseModel):
    """Acts, newest first."""

    model_config = example({"data": [ACT], "next_page_token": None})

    data: list[Act]
    next_page_token: str | None


@router.get("", summary="List acts, newest first", responses=documented("validation_failed"))
def list_audit(
    caller: GivenCaller, services: GivenServices, query: Annotated[AuditQuery, Query()]
) -> ActList:
    """Of your tenant; each was written down in the transaction of the act itself."""
    (before,) = tokens.read(query.page_token, int) if query.page_token else (None,)
    with services.database.transaction() as session:
        rows = audit.listing(
            session,
            caller.tenant_id,
            limit=query.page_size + 1,
            before=before,
            since=query.since,
            actor=query.actor,
            act=query.act,
            subject=query.subject,
        )
    shown = rows[: query.page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > query.page_size else None
    return ActList(
        data=[Act.model_validate({**row, "id": str(row["id"])}) for row in shown], next_page_token=token
    )
