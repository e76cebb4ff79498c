"""Items whose pages are to be counted: which producer has them, in an order that is fair to every tenant."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.store.expansion import PendingItem


def lease_items(session: Session, limit: int, seconds: float, *, per_job: int = 8) -> list[PendingItem]:
    """Take items to count, a few of each job, so that a job of a million documents does not hold up the rest.

    First of each tenant's oldest job, then of each one's next, and of paused ones last; where there are more tenants
    than items, any of them.
    """
    query = """
        WITH counting AS MATERIALIZED (
            SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY state = 'paused', created_at, id) AS place
            FROM jobs WHERE items_pending > 0 AND state IN ('queued', 'running', 'paused')
        ), due AS MATERIALIZED (
            SELECT x.id, c.id AS job_id FROM (
                SELECT id, :limit / count(*) FILTER (WHERE place = 1) OVER () AS share FROM counting
                ORDER BY place, random()
            ) c CROSS JOIN LATERAL (
                SELECT id FROM items
                WHERE job_id = c.id AND state = 'pending' AND (leased_until IS NULL OR leased_until <= now())
                ORDER BY id LIMIT greatest(1, least(:per_job, c.share)) FOR NO KEY UPDATE SKIP LOCKED
            ) x
            LIMIT :limit
        )
        UPDATE items i SET leased_until = now() + make_interval(secs => :seconds)
        FROM due JOIN jobs j ON j.id = due.job_id
        WHERE i.id = due.id
        RETURNING i.id, i.job_id, i.bucket, i.key, i.etag, i.version_id,
                  j.options || coalesce(i.options, '{}') AS options, i.member, j.output"""
    values = {"limit": limit, "seconds": seconds, "per_job": per_job}
    return [PendingItem(*row) for row in session.execute(text(query), values)]


def renew(session: Session, item_ids: Sequence[int], seconds: float) -> None:
    """Hold those that are not counted yet for longer."""
    query = """
        UPDATE items SET leased_until = now() + make_interval(secs => :seconds) WHERE id IN (
            SELECT id FROM items WHERE id = ANY(:ids) AND state = 'pending' ORDER BY id FOR NO KEY UPDATE)"""
    session.execute(text(query), {"ids": list(item_ids), "seconds": seconds})


def postpone(session: Session, item_ids: Sequence[int], seconds: float) -> None:
    """Count these later: the store did not answer."""
    query = "UPDATE items SET leased_until = now() + make_interval(secs => :seconds) WHERE id = ANY(:ids)"
    session.execute(text(query), {"ids": list(item_ids), "seconds": seconds})
