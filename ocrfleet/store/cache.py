"""The cache of results: what a page came to, for the next page that asks exactly the same."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session


def find(session: Session, key: bytes) -> str | None:
    """The body of the result kept under the key, which names its tenant; None if there is none."""
    query = text("SELECT CAST(body AS text) FROM results_cache WHERE key = :key")
    return session.execute(query, {"key": key}).scalar()


def keep(session: Session, entries: Sequence[tuple[bytes, int]]) -> None:
    """Keep results that this transaction has written, as (key, page id); a key that is known keeps what it has.

    In the order of the keys: two flushes that have the same ones wait for each other, and never in a circle.
    """
    if not entries:
        return
    query = """
        INSERT INTO results_cache (key, tenant_id, job_id, body)
        SELECT n.key, j.tenant_id, j.id, o.body
        FROM unnest(CAST(:keys AS bytea[]), CAST(:pages AS bigint[])) AS n(key, page_id)
        JOIN outcomes o ON o.page_id = n.page_id JOIN jobs j ON j.id = o.job_id
        ORDER BY n.key
        ON CONFLICT DO NOTHING"""
    session.execute(
        text(query), {"keys": [key for key, _ in entries], "pages": [page for _, page in entries]}
    )


def expire(session: Session, older_than: float, *, limit: int = 1000) -> int:
    """Delete some of the results kept for more than `older_than` seconds, the oldest first; returns how many.

    Those that a purge deletes at this moment are left to it.
    """
    query = """
        DELETE FROM results_cache WHERE key = ANY(ARRAY(
            SELECT key FROM results_cache WHERE created_at < now() - make_interval(secs => :age)
            ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
        )) RETURNING 1"""
    return len(session.execute(text(query), {"age": older_than, "limit": limit}).all())
