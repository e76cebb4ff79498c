"""What is written to a bucket as a job runs: which items have ended since the last time, and their lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.store import outcomes


@dataclass(frozen=True, slots=True)
class OutputJob:
    """A job with results whose items may have ended, leased to this producer."""

    id: UUID
    output: Mapping[str, Any]
    seq: int
    """Results up to this one have been seen to."""


@dataclass(frozen=True, slots=True)
class EndedItem:
    """An item whose last page has ended."""

    id: int
    bucket: str
    key: str
    etag: str | None
    custom_id: str | None
    member: str | None


def lease(session: Session, seconds: float) -> OutputJob | None:
    """Take the job that has waited longest with results to see to; None if there is none.

    A job that has ended, and whose results have all been seen to, is looked at no more.
    """
    query = """
        UPDATE jobs SET output_leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM jobs
            WHERE output_leased_until <= now() AND result_seq > output_seq AND purged_at IS NULL
            ORDER BY output_leased_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING id, output, output_seq"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    return None if row is None else OutputJob(row.id, row.output, row.output_seq)


def settle_ended(session: Session, limit: int = 1000) -> int:
    """Take jobs that have ended, with nothing left to write, from those that are looked at; returns how many."""
    query = """
        UPDATE jobs SET output_leased_until = NULL WHERE id IN (
            SELECT id FROM jobs WHERE output_leased_until <= now()
              AND ((finished_at IS NOT NULL AND result_seq = output_seq) OR purged_at IS NOT NULL)
            ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING 1"""
    return len(session.execute(text(query), {"limit": limit}).all())


def release(session: Session, job: OutputJob, after: float, error: Mapping[str, Any] | None = None) -> None:
    """Give the lease back: the job is looked at again in `after` seconds. `error` says why it did not go on."""
    query = """
        UPDATE jobs SET output_leased_until = now() + make_interval(secs => :after),
               output_error = coalesce(CAST(:error AS jsonb), output_error)
        WHERE id = :job AND output_seq = :seq AND output_leased_until IS NOT NULL"""
    values = {"job": job.id, "seq": job.seq, "after": after, "error": _json(error)}
    session.execute(text(query), values)


def advance(session: Session, job: OutputJob, seq: int, error: Mapping[str, Any] | None) -> bool:
    """Results up to `seq` have been seen to; the lease is given back. False if another has been there before.

    `error` is that of items which can never be written (it says how many, as `items`), and stays; any other is over.
    """
    query = """
        UPDATE jobs SET output_seq = :after, output_leased_until = now(), output_error = coalesce(
            CAST(:error AS jsonb),
            CASE WHEN output_error -> 'items' IS NOT NULL THEN output_error END)
        WHERE id = :job AND output_seq = :before RETURNING 1"""
    values = {"job": job.id, "before": job.seq, "after": seq, "error": _json(error)}
    return session.execute(text(query), values).scalar() is not None


def was_read(session: Session, item_id: int) -> bool:
    """Whether any page of the item succeeded."""
    query = "SELECT EXISTS (SELECT 1 FROM pages WHERE item_id = :item AND state = 'succeeded')"
    return bool(session.execute(text(query), {"item": item_id}).scalar())


def _json(error: Mapping[str, Any] | None) -> str | None:
    return None if error is None else orjson.dumps(error).decode()


def chunk(session: Session, job: OutputJob, limit: int) -> tuple[int, Sequence[EndedItem]]:
    """The seq of the last of the next results, and the items whose own last result is among them.

    An item is given when all its pages are terminal; so it comes once, and once more when a page of it is redriven.
    """
    query = """
        SELECT coalesce(max(seq), :seq) FROM (
            SELECT seq FROM outcomes WHERE job_id = :job AND seq > :seq ORDER BY seq LIMIT :limit) o"""
    last: int = session.execute(text(query), {"job": job.id, "seq": job.seq, "limit": limit}).scalar_one()
    # A document that is being read has an unfinished page at its end as a rule: that is seen without going through it.
    query = """
        SELECT i.id, i.bucket, i.key, i.etag, i.custom_id, i.member
        FROM (
            SELECT DISTINCT p.item_id FROM outcomes o JOIN pages p ON p.id = o.page_id
            WHERE o.job_id = :job AND o.seq > :seq AND o.seq <= :last
        ) t
        JOIN items i ON i.id = t.item_id AND i.state <> 'pending'
        WHERE (SELECT p.state FROM pages p WHERE p.item_id = i.id ORDER BY p.number DESC LIMIT 1)
              NOT IN ('ready', 'dispatched', 'running')
          AND NOT EXISTS (
              SELECT 1 FROM pages p LEFT JOIN outcomes o ON o.page_id = p.id
              WHERE p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running') OR o.seq > :last))
        ORDER BY i.id"""
    rows = session.execute(text(query), {"job": job.id, "seq": job.seq, "last": last})
    return last, [EndedItem(*row) for row in rows]


_LINES = text("""
SELECT o.seq, o.state, o.attempt, CAST(o.body AS text) AS body,
       p.job_id, p.item_id, p.number, nullif(p.number, 0) AS page, i.custom_id, i.bucket, i.key, i.member
FROM pages p JOIN outcomes o ON o.page_id = p.id JOIN items i ON i.id = p.item_id
WHERE p.item_id = :item AND p.number > :after ORDER BY p.number LIMIT :limit
""")


def lines(session: Session, item_id: int, after: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Up to `limit` result lines of an item in the order of its pages, after that page's number, as (number, line)."""
    for row in session.execute(_LINES, {"item": item_id, "after": after, "limit": limit}):
        yield row.number, outcomes.line(row)
