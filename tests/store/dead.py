"""Dead letters to fill a record with, and what is done with them, each act in a transaction of its own."""

from typing import Any
from uuid import UUID

from builders import Record, settlement
from sqlalchemy import RowMapping

from ocrfleet.errors import BY_CODE, FleetError
from ocrfleet.states import PageState
from ocrfleet.store import letters, outcomes, redrives
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.pages import ClaimedPage
from ocrfleet.store.redrives import NewRedrive
from ocrfleet.store.settle import Settlement

ACTOR = "a-key"
ALL = LetterFilter(all=True)


def died(page: ClaimedPage, error: FleetError, **members: Any) -> Settlement:
    """How a worker ends a page."""
    body = outcomes.error_body(error)
    members = {"code": error.code, "detail": error.detail, "body": body, "failed": True} | members
    return settlement(page, PageState.DEAD, **members)


def read(record: Record, job_id: UUID, *codes: str | None, worker: UUID | None = None) -> UUID:
    """Run as many of the job's pages as there are codes, each to its end: None succeeds."""
    worker = worker or record.worker()
    claimed = record.claim(worker, record.dispatch(job_id, limit=len(codes)))
    for page, code in zip(sorted(claimed, key=lambda page: page.id), codes, strict=True):
        ended = died(page, BY_CODE[code](f"page {page.id}")) if code else settlement(page)
        record.settle(Settlement(**{**_members(ended), "incarnation": worker}))
    return job_id


def _members(of: Settlement) -> dict[str, Any]:
    return {name: getattr(of, name) for name in Settlement.__slots__}


def dead(record: Record, *codes: str | None, worker: UUID | None = None, **asked: Any) -> UUID:
    """A job whose pages have ended so."""
    return read(record, record.ready(len(codes), **asked), *codes, worker=worker)


def listed(record: Record, *, tenant: UUID | None = None, **which: Any) -> list[RowMapping]:
    with record.database.transaction() as session:
        found = letters.listing(session, tenant or record.tenant, LetterFilter(**which), limit=1000)
        return list(found)


def discard(record: Record, expected: int, **which: Any) -> int:
    with record.database.transaction() as session:
        return letters.discard(
            session, record.tenant, ACTOR, LetterFilter(**which), expected=expected, reason="no use"
        )


def redrive(
    record: Record,
    *,
    override: dict[str, Any] | None = None,
    rate: float | None = None,
    chunk: int = 1000,
    tenant: UUID | None = None,
    **which: Any,
) -> int:
    """Make a redrive, with its first chunk; all letters unless `which` names some."""
    asked = NewRedrive(
        tenant or record.tenant, LetterFilter(**which or {"all": True}), override or {}, rate, "mended"
    )
    with record.database.transaction() as session:
        return redrives.create(session, asked, ACTOR, chunk=chunk)


def step(record: Record, chunk: int = 1000) -> int:
    with record.database.transaction() as session:
        return redrives.step(session, chunk)


def told(record: Record, redrive_id: int) -> tuple[RowMapping, redrives.Plan]:
    with record.database.transaction() as session:
        found = redrives.get(session, record.tenant, redrive_id)
    assert found is not None
    return found
