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
    rest: bool
    """They are all, and no page is left; what remains are items of which a page was canceled."""


@dataclass(frozen=True, slots=True)
class EndedItem:
    """An item whose last page has ended; `lines` is how many of its pages have a result."""

    id: int
    bucket: str
    key: str
    etag: str | None
    custom_id: str | None
    member: str | None
    lines: int


_OVER = "finished_at IS NOT NULL AND result_seq = output_seq AND succeeded + dead + canceled = total"
_CUT = "canceled > 0 AND succeeded + dead > 0"
"""Conditions on `jobs`. A canceled page has no result: such a job's items are gone through once more at its end."""
_ITEM = """
i.id, i.bucket, i.key, i.etag, i.custom_id, i.member,
(SELECT count(*) FROM pages p JOIN outcomes o ON o.page_id = p.id WHERE p.item_id = i.id) AS lines"""


def lease(session: Session, seconds: float) -> OutputJob | None:
    """Take the job that has waited longest with results to see to; None if there is none.

    A job that has ended, and whose results have all been seen to, is looked at no more.
    """
    query = f"""
        UPDATE jobs SET output_leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM jobs
            WHERE output_leased_until <= now() AND purged_at IS NULL
              AND (result_seq > output_seq OR ({_OVER} AND {_CUT}))
            ORDER BY output_leased_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING id, output, output_seq, result_seq = output_seq"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    return None if row is None else OutputJob(*row)


def settle_ended(session: Session, limit: int = 1000) -> int:
    """Take jobs that have ended, with nothing left to write, from those that are looked at; returns how many."""
    query = f"""
        UPDATE jobs SET output_leased_until = NULL WHERE id IN (
            SELECT id FROM jobs WHERE output_leased_until <= now()
              AND (({_OVER} AND NOT ({_CUT})) OR purged_at IS NOT NULL)
            ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING 1"""
    return len(session.execute(text(query), {"limit": limit}).all())


def release(session: Session, job: OutputJob, after: float, error: Mapping[str, Any] | None = None) -> None:
    """The lease ends in `after` seconds: then the job is looked at again. `error` says why it did not go on."""
    query = """
        UPDATE jobs SET output_leased_until = now() + make_interval(secs => :after),
               output_error = CASE WHEN output_error -> 'items' IS NULL
                                   THEN coalesce(CAST(:error AS jsonb), output_error) ELSE output_error END
        WHERE id = :job AND output_seq = :seq AND output_leased_until IS NOT NULL"""
    values = {"job": job.id, "seq": job.seq, "after": after, "error": _json(error)}
    session.execute(text(query), values)


def advance(session: Session, job: OutputJob, seq: int, error: Mapping[str, Any] | None) -> bool:
    """Results up to `seq` have been seen to; the lease is given back. False if another has been there before.

    `error` is that of items which can never be written (it says how many, as `items`); it stays, and further items are
    added to it. Any other is over. After the rest the job is looked at no more, unless it was redriven meanwhile.
    """
    query = """
        UPDATE jobs SET output_seq = :after,
               output_leased_until = CASE WHEN :rest AND finished_at IS NOT NULL AND result_seq = :after
                                          THEN NULL ELSE now() END,
               output_error = CASE
                   WHEN output_error -> 'items' IS NULL THEN CAST(:error AS jsonb)
                   WHEN :items = 0 THEN output_error
                   ELSE jsonb_set(output_error, '{items}', to_jsonb(CAST(output_error ->> 'items' AS bigint) + :items))
               END
        WHERE id = :job AND output_seq = :before RETURNING 1"""
    items = error["items"] if error else 0
    values = {
        "job": job.id,
        "before": job.seq,
        "after": seq,
        "rest": job.rest,
        "error": _json(error),
        "items": items,
    }
    return session.execute(text(query), values).scalar() is not None


def _json(error: Mapping[str, Any] | None) -> str | None:
    return None if error is None else orjson.dumps(error).decode()


def chunk(session: Session, job: OutputJob, limit: int) -> tuple[int, Sequence[EndedItem]]:
    """The seq of the last of the next results, and the items whose own last result is among them.

    An item is given when all its pages have ended; so it comes once, and once more when a page of it is redriven. One
    of which a page was canceled waits for the job's end (`rest`).
    """
    query = """
        SELECT coalesce(max(seq), :seq) FROM (
            SELECT seq FROM outcomes WHERE job_id = :job AND seq > :seq ORDER BY seq LIMIT :limit) o"""
    last: int = session.execute(text(query), {"job": job.id, "seq": job.seq, "limit": limit}).scalar_one()
    # A document that is being read has an unfinished page at its end as a rule: that is seen without going through it.
    query = f"""
        SELECT {_ITEM} FROM (
            SELECT DISTINCT p.item_id FROM outcomes o JOIN pages p ON p.id = o.page_id
            WHERE o.job_id = :job AND o.seq > :seq AND o.seq <= :last
        ) t
        JOIN items i ON i.id = t.item_id AND i.state <> 'pending'
        WHERE (SELECT p.state FROM pages p WHERE p.item_id = i.id ORDER BY p.number DESC LIMIT 1)
              NOT IN ('ready', 'dispatched', 'running')
          AND NOT EXISTS (
              SELECT 1 FROM pages p LEFT JOIN outcomes o ON o.page_id = p.id
              WHERE p.item_id = i.id AND (p.state IN ('ready', 'dispatched', 'running', 'canceled') OR o.seq > :last))
        ORDER BY i.id"""
    rows = session.execute(text(query), {"job": job.id, "seq": job.seq, "last": last})
    return last, [EndedItem(*row) for row in rows]


def rest(session: Session, job: OutputJob, after: int, limit: int) -> tuple[int, Sequence[EndedItem]]:
    """Of a job that is over, the next items with results and canceled pages, and the last one's ordinal."""
    query = f"""
        SELECT i.ordinal, {_ITEM} FROM items i
        WHERE i.job_id = :job AND i.ordinal > :after
          AND EXISTS (SELECT 1 FROM pages WHERE item_id = i.id AND state = 'canceled')
          AND EXISTS (SELECT 1 FROM pages p JOIN outcomes o ON o.page_id = p.id WHERE p.item_id = i.id)
        ORDER BY i.ordinal LIMIT :limit"""
    rows = session.execute(text(query), {"job": job.id, "after": after, "limit": limit}).all()
    return rows[-1].ordinal if rows else after, [EndedItem(*row[1:]) for row in rows]


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
