"""Taking away deleted jobs, a chunk of rows at a time; the images in our bucket that the rows name go before them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

CHUNK = 10_000
"""Rows of each table in one transaction."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pages of a deleted job that go next, and the keys of the objects that only they name."""

    job_id: UUID
    page_ids: Sequence[int]
    thumbnails: Sequence[str]


def lease(session: Session, seconds: float, *, limit: int = CHUNK) -> Chunk | None:
    """The next chunk of the job that was deleted first, for this producer alone; None if there is none.

    A job that failed may have pages under way: their workers let go of them first.
    """
    # A deleted job is expanded no more: the column of that lease serves this one.
    query = """
        UPDATE jobs SET expansion_leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM jobs j
            WHERE purged_at IS NOT NULL AND (expansion_leased_until IS NULL OR expansion_leased_until <= now())
              AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.job_id = j.id AND p.state IN ('dispatched', 'running'))
            ORDER BY purged_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING id"""
    job_id = session.execute(text(query), {"seconds": seconds}).scalar()
    if job_id is None:
        return None
    # By way of the items: pages that have ended stand in no index of their job's.
    query = """
        SELECT p.id FROM (SELECT id FROM items WHERE job_id = :job ORDER BY ordinal LIMIT :limit) i
        CROSS JOIN LATERAL (SELECT id FROM pages WHERE item_id = i.id ORDER BY number LIMIT :limit) p LIMIT :limit"""
    page_ids = sorted(session.execute(text(query), {"job": job_id, "limit": limit}).scalars())
    query = "SELECT thumbnail FROM attempts WHERE page_id = ANY(:ids) AND thumbnail IS NOT NULL"
    return Chunk(job_id, page_ids, list(session.execute(text(query), {"ids": page_ids}).scalars()))


def step(session: Session, chunk: Chunk, *, limit: int = CHUNK) -> None:
    """Delete the chunk's rows, items left without pages, and cached results; at last the job. Ends the lease."""
    job = {"job": chunk.job_id, "limit": limit}
    query = """
        UPDATE jobs SET expansion_leased_until = NULL WHERE id = :job AND purged_at IS NOT NULL RETURNING 1"""
    if session.execute(text(query), job).scalar() is None:
        return
    ids = {"ids": list(chunk.page_ids)}
    for table, column in (("attempts", "page_id"), ("outcomes", "page_id"), ("pages", "id")):
        session.execute(text(f"DELETE FROM {table} WHERE {column} = ANY(:ids)"), ids)
    query = """
        DELETE FROM items i WHERE id IN (SELECT id FROM items WHERE job_id = :job ORDER BY ordinal LIMIT :limit)
        AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.item_id = i.id) RETURNING 1"""
    gone = len(session.execute(text(query), job).all())
    query = """
        DELETE FROM results_cache WHERE key IN (SELECT key FROM results_cache WHERE job_id = :job LIMIT :limit)
        RETURNING 1"""
    gone += len(session.execute(text(query), job).all())
    if not gone and not chunk.page_ids:
        # The counts of its errors go with it.
        session.execute(text("DELETE FROM jobs WHERE id = :job"), job)
