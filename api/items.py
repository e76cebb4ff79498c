"""Items: the inputs of a job one by one, their pages, and what was tried with them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import RowMapping

from api import item_answers as answers
from api import tokens
from api.deps import GivenCaller, GivenServices, Services
from api.jobs import found
from api.problems import documented
from api.schemas import Name, Strict, Text
from ocrfleet.errors import NotFound
from ocrfleet.store import items, jobs
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1", tags=["items"])
ItemId = Annotated[int, Path(ge=1, lt=2**63)]
PageSize = Annotated[int, Query(ge=1, le=500)]
PageToken = Annotated[
    str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
]
_DOCUMENTED = documented("not_found", "validation_failed")
_COUNTS = ("ready", "dispatched", "running", "succeeded", "dead", "canceled")


class ItemQuery(Strict):
    """Which items; what is given must all hold."""

    state: answers.ItemStateName | None = None
    custom_id: Name | None = None
    key: Annotated[Text, Field(max_length=1024)] | None = None
    page_size: int = Field(50, ge=1, le=500)
    page_token: str | None = Field(
        None, max_length=200, description="`next_page_token` of the answer before."
    )


@router.get("/jobs/{job_id}/items", summary="List a job's inputs", responses=_DOCUMENTED)
def list_items(
    job_id: UUID, caller: GivenCaller, services: GivenServices, query: Annotated[ItemQuery, Query()]
) -> answers.ItemList:
    """In the order of the input. A filter looks at 5,000 items a page: it may meet few of them, and go on."""
    after = tokens.read(query.page_token, int)[0] if query.page_token else -1
    with services.database.transaction() as session:
        found(jobs.get(session, caller.tenant_id, job_id), job_id)
        rows, behind = items.listing(
            session,
            caller.tenant_id,
            job_id,
            limit=query.page_size,
            after=after,
            state=query.state,
            custom_id=query.custom_id,
            key=query.key,
        )
    token = None if behind is None else tokens.write(behind)
    return answers.ItemList(data=[_item(row) for row in rows], next_page_token=token)


@router.get("/items/{item_id}", summary="See one input", responses=_DOCUMENTED)
def get_item(item_id: ItemId, caller: GivenCaller, services: GivenServices) -> answers.Item:
    """With its pages by state."""
    return _item(_found(services, caller, item_id))


@router.get("/items/{item_id}/pages", summary="List an input's pages", responses=_DOCUMENTED)
def list_item_pages(
    item_id: ItemId,
    caller: GivenCaller,
    services: GivenServices,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> answers.ItemPageList:
    """By number."""
    after = tokens.read(page_token, int)[0] if page_token else -1
    _found(services, caller, item_id)
    with services.database.statement() as session:
        # One more than asked for, to know whether there is a next page.
        rows = items.pages(session, caller.tenant_id, item_id, limit=page_size + 1, after=after)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["number"]) if len(rows) > page_size else None
    pages = [answers.ItemPage(**_with(row, id=str(row["id"]))) for row in shown]
    return answers.ItemPageList(data=pages, next_page_token=token)


@router.get("/items/{item_id}/attempts", summary="List what was tried with an input", responses=_DOCUMENTED)
def list_item_attempts(
    item_id: ItemId,
    caller: GivenCaller,
    services: GivenServices,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> answers.ItemAttemptList:
    """Attempts that failed, of all its pages; a page that was read at once has none."""
    after = (-1, -1)
    if page_token:
        number, fence = tokens.read(page_token, int, int)
        after = number, fence
    _found(services, caller, item_id)
    with services.database.statement() as session:
        rows = items.attempts(session, caller.tenant_id, item_id, limit=page_size + 1, after=after)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["number"], shown[-1]["fence"]) if len(rows) > page_size else None
    attempts = [
        answers.ItemAttempt(**_with(row, page_id=str(row["page_id"]), page=row["number"] or None))
        for row in shown
    ]
    return answers.ItemAttemptList(data=attempts, next_page_token=token)


def _found(services: Services, caller: Caller, item_id: int) -> RowMapping:
    with services.database.statement() as session:
        row = items.get(session, caller.tenant_id, item_id)
    if row is None:
        raise NotFound(f"There is no item {item_id}.")
    return row


def _item(row: RowMapping) -> answers.Item:
    counts = {name: row[name] for name in _COUNTS}
    pages = answers.PageCounts(total=row["pages"], **counts)
    return answers.Item(**_with(row, id=str(row["id"]), pages=pages))


def _with(row: RowMapping, **members: Any) -> dict[str, Any]:
    return {**row, **members}
