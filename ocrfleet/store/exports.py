"""Exports: a job's results as files of a bucket, written in chunks under a lease and a cursor that is compared and set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.errors import Canceled, FleetError, JobStateConflict, NotFound
from ocrfleet.states import JOB_TERMINAL, ExportFormat, ExportState, JobState
from ocrfleet.store import audit, control, deliveries

NEED_REGIONS = frozenset({ExportFormat.PDF, ExportFormat.ALTO})
_ASKED_ABOUT = 100
"""Results of a job that are looked at to know whether it has regions."""


@dataclass(frozen=True, slots=True)
class NewExport:
    """What a caller asks for; `partial` allows a job that still runs, whose unfinished pages are left out."""

    job_id: UUID
    format: ExportFormat
    bucket: str
    prefix: str
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Export:
    """An export under our lease, and where to go on."""

    id: UUID
    job_id: UUID
    format: ExportFormat
    bucket: str
    prefix: str
    cursor: Mapping[str, Any]
    items: int
    failed: int
    bytes: int
    options: Mapping[str, Any]
    """Those of the job."""
    deleted: bool = False
    """The job is: nothing more is written."""


class LeaseLost(Exception):  # noqa: N818 (it is no error of the user's, and never leaves the producer)
    """Another producer has moved the cursor, or the job was deleted: nothing was written to the record."""


def lacks_regions(session: Session, job_id: UUID) -> bool:
    """Whether none of the job's first results has regions; False while it has no result."""
    query = """
        SELECT NOT bool_or(coalesce(json_typeof(body -> 'regions'), 'null') <> 'null')
        FROM (SELECT body FROM outcomes WHERE job_id = :job AND state = 'succeeded' ORDER BY seq LIMIT :limit) o"""
    return bool(session.execute(text(query), {"job": job_id, "limit": _ASKED_ABOUT}).scalar())


def create(
    session: Session, tenant_id: UUID, actor: str, asked: NewExport, export_id: UUID | None = None
) -> UUID:
    """Add an export for the producers, or find the one under this id, or the one that runs and is the same.

    NotFound; JobStateConflict for a job that still runs, unless `partial`, and where another export writes already.
    """
    # Under the job's lock, so that of two who ask the same the second finds the first one's.
    query = """
        SELECT state FROM jobs WHERE id = :job AND tenant_id = :tenant AND purged_at IS NULL FOR NO KEY UPDATE"""
    state = session.execute(text(query), {"job": asked.job_id, "tenant": tenant_id}).scalar()
    if state is None:
        raise NotFound(f"There is no job {asked.job_id}.")
    export_id = export_id or uuid4()
    if get(session, tenant_id, export_id) is not None:
        return export_id
    if JobState(state) not in JOB_TERMINAL and not asked.partial:
        raise JobStateConflict(
            f"The job is {state}: wait until it has ended, or export what there is with `partial`.",
            state=state,
        )
    query = """
        SELECT id, job_id, format, options FROM exports
        WHERE tenant_id = :tenant AND finished_at IS NULL AND bucket = :bucket AND prefix = :prefix"""
    values = {"tenant": tenant_id, "bucket": asked.bucket, "prefix": asked.prefix}
    options = {"partial": asked.partial}
    for row in session.execute(text(query), values):
        if (row.job_id, row.format, row.options) == (asked.job_id, asked.format, options):
            return row.id
        raise JobStateConflict(f"The export {row.id} is being written there already.", export_id=str(row.id))
    query = """
        INSERT INTO exports (id, tenant_id, job_id, format, bucket, prefix, options)
        VALUES (:id, :tenant, :job, :format, :bucket, :prefix, CAST(:options AS jsonb))"""
    values |= {"id": export_id, "job": asked.job_id, "format": asked.format.value}
    session.execute(text(query), values | {"options": orjson.dumps(options).decode()})
    where = {"format": asked.format.value, "bucket": asked.bucket, "prefix": asked.prefix}
    audit.record(
        session,
        tenant_id,
        actor,
        "export",
        control.subject(asked.job_id),
        export=str(export_id),
        **where,
        **options,
    )
    return export_id


_SELECT = """
SELECT id, job_id, format, bucket, prefix, options, state, items, failed, bytes, error, created_at, finished_at
FROM exports WHERE tenant_id = :tenant
"""


def get(session: Session, tenant_id: UUID, export_id: UUID) -> RowMapping | None:
    """One export of the tenant's; it stays when its job is deleted."""
    values = {"tenant": tenant_id, "id": export_id}
    return session.execute(text(_SELECT + " AND id = :id"), values).mappings().one_or_none()


def listing(
    session: Session,
    tenant_id: UUID,
    job_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
) -> Sequence[RowMapping]:
    """A job's exports, newest first, from the one after `before` (created_at, id)."""
    clauses = [_SELECT, "AND job_id = :job"]
    values: dict[str, Any] = {"tenant": tenant_id, "job": job_id, "limit": limit}
    if before:
        clauses.append("AND (created_at, id) < (:created_at, :id)")
        values |= {"created_at": before[0], "id": before[1]}
    clauses.append("ORDER BY created_at DESC, id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def lease(session: Session, seconds: float) -> Export | None:
    """Take the export that has waited longest; None if there is none. One whose job was deleted ends as canceled."""
    query = """
        UPDATE exports e SET state = 'running', leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM exports
            WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until <= now())
            ORDER BY leased_until NULLS FIRST, created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING id, job_id, format, bucket, prefix, cursor, items, failed, bytes,
                  (SELECT options FROM jobs j WHERE j.id = e.job_id AND j.purged_at IS NULL) AS options"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    if row is None:
        return None
    known = (row.id, row.job_id, ExportFormat(row.format), row.bucket, row.prefix, row.cursor)
    counts = (row.items, row.failed, row.bytes)
    return Export(*known, *counts, options=row.options or {}, deleted=row.options is None)


# A job that is deleted loses its rows under the reader: what was read since then is not to count.
_HELD = """
WHERE e.id = :id AND e.cursor = CAST(:before AS jsonb) AND e.finished_at IS NULL
  AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = e.job_id AND j.purged_at IS NULL)
"""


def renew(session: Session, export: Export, seconds: float) -> None:
    """Keep the lease for so long from now; LeaseLost if it is another's."""
    query = f"UPDATE exports e SET leased_until = now() + make_interval(secs => :seconds) {_HELD} RETURNING 1"
    values = {"id": export.id, "before": orjson.dumps(export.cursor).decode(), "seconds": seconds}
    if session.execute(text(query), values).scalar() is None:
        raise LeaseLost


def advance(
    session: Session,
    export: Export,
    cursor: Mapping[str, Any],
    *,
    seconds: float,
    items: int = 0,
    failed: int = 0,
    size: int = 0,
) -> Export:
    """Move the cursor behind a chunk that is written, and add its items and bytes; LeaseLost if it has moved."""
    query = f"""
        UPDATE exports e SET cursor = CAST(:after AS jsonb), leased_until = now() + make_interval(secs => :seconds),
            items = items + :items, failed = failed + :failed, bytes = bytes + :bytes {_HELD}
        RETURNING items, failed, bytes"""
    values = {"id": export.id, "before": orjson.dumps(export.cursor).decode(), "seconds": seconds}
    values |= {"after": orjson.dumps(cursor).decode(), "items": items, "failed": failed, "bytes": size}
    row = session.execute(text(query), values).one_or_none()
    if row is None:
        raise LeaseLost
    return replace(export, cursor=cursor, items=row.items, failed=row.failed, bytes=row.bytes)


def release(session: Session, export_id: UUID, after: float = 0.0) -> None:
    """Give the lease back; the export goes on in `after` seconds."""
    query = "UPDATE exports SET leased_until = now() + make_interval(secs => :after) WHERE id = :id"
    session.execute(text(query), {"id": export_id, "after": after})


def finish(session: Session, export_id: UUID, error: FleetError | None = None) -> None:
    """End the export; with an error it has failed. One that has ended is left as it is."""
    query = """
        UPDATE exports SET state = :state, error = CAST(:error AS jsonb), finished_at = now(), leased_until = NULL
        WHERE id = :id AND finished_at IS NULL RETURNING 1"""
    told = None if error is None else orjson.dumps({"code": error.code, "detail": error.detail}).decode()
    state = ExportState.COMPLETED if error is None else ExportState.FAILED
    if session.execute(text(query), {"id": export_id, "state": state.value, "error": told}).scalar():
        deliveries.exports_ended(session, [export_id])


def cancel(session: Session, export_id: UUID) -> None:
    """End an export whose job was deleted."""
    finish(session, export_id, Canceled("The job was deleted."))
