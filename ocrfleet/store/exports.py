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
    lease: UUID
    partial: bool
    options: Mapping[str, Any]
    """Those of the job."""
    deleted: bool = False
    """The job is: nothing more is written."""


class LeaseLost(Exception):  # noqa: N818 (it is no error of the user's, and never leaves the producer)
    """Another producer has the export, it has ended, or its job was deleted: nothing was written to the record."""


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
        INSERT INTO exports (id, tenant_id, job_id, format, bucket, prefix, options)
        VALUES (:id, :tenant, :job, :format, :bucket, :prefix, CAST(:options AS jsonb))
        ON CONFLICT (bucket, prefix) WHERE finished_at IS NULL DO NOTHING RETURNING id"""
    values: dict[str, Any] = {"id": export_id, "tenant": tenant_id, "job": asked.job_id}
    values |= {"format": asked.format.value, "bucket": asked.bucket, "prefix": asked.prefix}
    options = {"partial": asked.partial}
    if not session.execute(text(query), values | {"options": orjson.dumps(options).decode()}).scalar():
        return _same(session, tenant_id, asked, options)
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


def _same(session: Session, tenant_id: UUID, asked: NewExport, options: Mapping[str, Any]) -> UUID:
    """The tenant's export that runs and is the same; JobStateConflict where another is being written."""
    query = """
        SELECT id, job_id, format, options FROM exports
        WHERE tenant_id = :tenant AND finished_at IS NULL AND bucket = :bucket AND prefix = :prefix"""
    values = {"tenant": tenant_id, "bucket": asked.bucket, "prefix": asked.prefix}
    row = session.execute(text(query), values).one_or_none()
    if row is None:
        # Another tenant's: that its place is taken is all that may be said of it.
        raise JobStateConflict("Another export is being written there already.")
    if (row.job_id, row.format, row.options) != (asked.job_id, asked.format, options):
        raise JobStateConflict(f"The export {row.id} is being written there already.", export_id=str(row.id))
    return row.id


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
    """Take the export that has waited longest, of a tenant of whose no other is being written; None if there is none."""
    query = """
        UPDATE exports e SET state = 'running', lease = gen_random_uuid(),
               leased_until = now() + make_interval(secs => :seconds)
        WHERE id = (
            SELECT id FROM exports w
            WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until <= now()) AND NOT EXISTS (
                SELECT 1 FROM exports o
                WHERE o.tenant_id = w.tenant_id AND o.finished_at IS NULL AND o.lease IS NOT NULL AND o.leased_until > now()
            )
            ORDER BY leased_until NULLS FIRST, created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING id, job_id, format, bucket, prefix, cursor, items, failed, bytes, lease,
                  options ->> 'partial' = 'true' AS partial, (SELECT options FROM jobs j WHERE j.id = e.job_id AND j.purged_at IS NULL) AS options"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    if row is None:
        return None
    known = (row.id, row.job_id, ExportFormat(row.format), row.bucket, row.prefix, row.cursor)
    counts, held = (row.items, row.failed, row.bytes), (row.lease, bool(row.partial))
    return Export(*known, *counts, *held, options=row.options or {}, deleted=row.options is None)


_OURS = "WHERE e.id = :id AND e.lease = :lease AND e.finished_at IS NULL"
# A job that is deleted loses its rows under the reader: what was read since then is not to count.
_HELD = f"""
{_OURS}
  AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = e.job_id AND j.purged_at IS NULL)
"""


def generation(session: Session, export: Export) -> int:
    """The generation of the export's job; JobStateConflict if it was redriven, unless the export is partial.

    What was read before is of one generation then.
    """
    query = """
        SELECT generation, finished_at IS NOT NULL AND generation = coalesce(CAST(:begun AS integer), generation) AS same
        FROM jobs WHERE id = :job AND purged_at IS NULL"""
    values = {"job": export.job_id, "begun": export.cursor.get("generation")}
    row = session.execute(text(query), values).one_or_none()
    if row is None:
        raise LeaseLost
    if not (row.same or export.partial):
        raise JobStateConflict(
            "The job was redriven while it was exported: export it again when it has ended."
        )
    return row.generation


def renew(session: Session, export: Export, seconds: float) -> None:
    """Keep the lease for so long from now; LeaseLost if it is another's."""
    query = f"UPDATE exports e SET leased_until = now() + make_interval(secs => :seconds) {_HELD} RETURNING 1"
    values = {"id": export.id, "lease": export.lease, "seconds": seconds}
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
            items = items + :items, failed = failed + :failed, bytes = bytes + :bytes
        {_HELD} AND e.cursor = CAST(:before AS jsonb)
        RETURNING items, failed, bytes"""
    values = {"id": export.id, "lease": export.lease, "before": orjson.dumps(export.cursor).decode()}
    values |= {"after": orjson.dumps(cursor).decode(), "seconds": seconds}
    values |= {"items": items, "failed": failed, "bytes": size}
    row = session.execute(text(query), values).one_or_none()
    if row is None:
        raise LeaseLost
    return replace(export, cursor=cursor, items=row.items, failed=row.failed, bytes=row.bytes)


def release(session: Session, export: Export, after: float = 0.0) -> None:
    """Give the lease back; the export goes on in `after` seconds. LeaseLost if it is another's."""
    query = f"UPDATE exports e SET lease = NULL, leased_until = now() + make_interval(secs => :after) {_OURS} RETURNING 1"
    values = {"id": export.id, "lease": export.lease, "after": after}
    if session.execute(text(query), values).scalar() is None:
        raise LeaseLost


def finish(session: Session, export: Export, error: FleetError | None = None) -> None:
    """End the export; with an error it has failed. LeaseLost if it is another's, or has ended."""
    query = f"""
        UPDATE exports e SET state = :state, error = CAST(:error AS jsonb), finished_at = now(),
               lease = NULL, leased_until = NULL {_OURS} RETURNING 1"""
    told = None if error is None else orjson.dumps({"code": error.code, "detail": error.detail}).decode()
    state = ExportState.COMPLETED if error is None else ExportState.FAILED
    values = {"id": export.id, "lease": export.lease, "state": state.value, "error": told}
    if session.execute(text(query), values).scalar() is None:
        raise LeaseLost
    session.execute(text("DELETE FROM export_names WHERE export_id = :id"), {"id": export.id})
    deliveries.exports_ended(session, [export.id])


def cancel(session: Session, export: Export) -> None:
    """End an export whose job was deleted."""
    finish(session, export, Canceled("The job was deleted."))
