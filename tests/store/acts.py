"""What callers do to jobs, each act in a transaction of its own, and the producer's answer to a deletion."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from builders import Record
from sqlalchemy import Row

from ocrfleet.states import Lane
from ocrfleet.store import control, dispatch, purge
from ocrfleet.store.control import Changes

ACTOR = "a-key"


def pause(record: Record, job_id: UUID) -> None:
    with record.database.transaction() as session:
        control.pause(session, record.tenant, job_id, actor=ACTOR)


def resume(record: Record, job_id: UUID) -> None:
    with record.database.transaction() as session:
        control.resume(session, record.tenant, job_id, actor=ACTOR)


def change(record: Record, job_id: UUID, **changes: Any) -> None:
    with record.database.transaction() as session:
        control.change(session, record.tenant, job_id, Changes(**changes), actor=ACTOR)


def delete(record: Record, job_id: UUID) -> None:
    with record.database.transaction() as session:
        control.delete(session, record.tenant, job_id, actor=ACTOR)


def expire(record: Record) -> int:
    """Cancel what is past its deadline; how many jobs there were."""
    jobs = 0
    while True:
        with record.database.transaction() as session:
            if not control.expire(session):
                return jobs
        jobs += 1


def recall(record: Record) -> int:
    with record.database.transaction() as session:
        return control.recall_paused(session)


def demanded(record: Record) -> list[UUID]:
    """The jobs that a dispatcher would serve now, in its order."""
    with record.database.transaction() as session:
        return [job for tenant in dispatch.demand(session, Lane.BULK) for job in tenant.jobs]


def take_away(record: Record, limit: int = 10_000) -> purge.Chunk | None:
    """One chunk of one deleted job."""
    with record.database.transaction() as session:
        chunk = purge.lease(session, 60.0, limit=limit)
    if chunk:
        with record.database.transaction() as session:
            purge.step(session, chunk, limit=limit)
    return chunk


def acts(record: Record) -> Sequence[Row[Any]]:
    """The audit, oldest first."""
    return record.run("SELECT * FROM audit ORDER BY id")
