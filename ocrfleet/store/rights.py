"""Which buckets tenants may use, as the record has it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.errors import NotFound
from ocrfleet.rights import Rights


def of_tenants(session: Session, tenant_ids: Sequence[UUID], own: str) -> dict[UUID, Rights]:
    """By tenant; `own` is our own bucket."""
    query = "SELECT id, buckets FROM tenants WHERE id = ANY(:ids)"
    rows = session.execute(text(query), {"ids": list(tenant_ids)})
    return {row.id: Rights(own, row.id, _names(row.buckets)) for row in rows}


def of_job(session: Session, job_id: UUID, own: str) -> Rights:
    """Those of the job's tenant, for what is read for the job and written of it; NotFound for an unknown job."""
    query = "SELECT t.id, t.buckets FROM jobs j JOIN tenants t ON t.id = j.tenant_id WHERE j.id = :job"
    row = session.execute(text(query), {"job": job_id}).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id}.")
    return Rights(own, row.id, _names(row.buckets), job_id)


def _names(buckets: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if buckets is None else tuple(buckets)
