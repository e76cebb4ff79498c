"""Expansion: a job's input becomes items, its items become pages; each step resumes after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson
from psycopg.errors import UniqueViolation
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.errors import FleetError
from ocrfleet.states import ItemState, PageState
from ocrfleet.store import jobs, outcomes, quotas
from ocrfleet.store.notify import WORK, notify


@dataclass(frozen=True, slots=True)
class Expansion:
    """A job whose input is being read, and where to go on."""

    job_id: UUID
    input: Mapping[str, Any]
    options: Mapping[str, Any]
    cursor: Mapping[str, Any]
    task: str = ""
    output: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tenant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class NewItem:
    """One line, key or object of a job's input, or a file in an archive."""

    ordinal: int
    bucket: str
    key: str
    etag: str | None = None
    version_id: str | None = None
    custom_id: str | None = None
    options: Mapping[str, Any] | None = None
    countable: bool = False
    """Its pages have to be counted; otherwise it has one."""
    error: FleetError | None = None
    """It can never be read (a malformed manifest line)."""
    member: str | None = None
    size: int | None = None
    """Bytes, where they are known."""


class LeaseLost(Exception):  # noqa: N818 (it is no error of the user's, and never leaves the producer)
    """Another producer has moved the cursor, or the job no longer expands: nothing was written."""


def lease(session: Session, seconds: float) -> Expansion | None:
    """Take the job whose expansion has waited longest; None if there is none."""
    query = f"""
        UPDATE jobs SET expansion_leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM jobs
            WHERE listed_at IS NULL AND open_until IS NULL AND state IN ('queued', 'running', 'paused')
              AND (expansion_leased_until IS NULL OR expansion_leased_until <= now()) AND NOT {quotas.WAITS}
            ORDER BY expansion_leased_until NULLS FIRST, created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING id, input, options, cursor, task, output, tenant_id"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    return None if row is None else Expansion(*row)


def release(session: Session, job_id: UUID, after: float = 0.0) -> None:
    """Give the lease back; the job is up for expansion again in `after` seconds."""
    query = "UPDATE jobs SET expansion_leased_until = now() + make_interval(secs => :after) WHERE id = :job"
    session.execute(text(query), {"job": job_id, "after": after})


def write(
    session: Session,
    expansion: Expansion,
    cursor: Mapping[str, Any],
    items: Sequence[NewItem],
    *,
    listed: bool,
    seconds: float,
) -> Expansion:
    """Write a chunk and move the cursor, both or neither; renews the lease. LeaseLost if the cursor has moved."""
    broken = [item for item in items if item.error is not None]
    ids = copy_items(session, expansion.job_id, items)
    copy_pages(session, expansion.job_id, items, ids)
    # Compared and set last, so that the job's row is held for a moment only.
    query = """
        UPDATE jobs SET cursor = CAST(:after AS jsonb), expansion_leased_until = now() + make_interval(secs => :seconds)
        WHERE id = :job AND cursor = CAST(:before AS jsonb) AND listed_at IS NULL
          AND state IN ('queued', 'running', 'paused')
        RETURNING result_seq"""
    values = {
        "job": expansion.job_id,
        "before": orjson.dumps(expansion.cursor).decode(),
        "after": orjson.dumps(cursor).decode(),
        "seconds": seconds,
    }
    seq = session.execute(text(query), values).scalar()
    if seq is None:
        raise LeaseLost
    by_ordinal = dict(zip((item.ordinal for item in items), ids, strict=True))
    dead = [(by_ordinal[item.ordinal], item.error) for item in broken if item.error]
    bury(session, expansion.job_id, dead, seq)
    delta = jobs.Delta(
        expansion.job_id,
        items=len(items),
        pending=sum(item.countable for item in items),
        total=sum(not item.countable for item in items),
        dead=len(broken),
        results=len(broken),
        listed=listed,
    )
    jobs.advance(session, [delta])
    notify(session, WORK)
    return replace(expansion, cursor=cursor)


def _copy(session: Session, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    connection: Any = session.connection().connection.driver_connection
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def copy_items(session: Session, job_id: UUID, items: Sequence[NewItem], *, after: int = 0) -> list[int]:
    """Write the items, `after` added to their ordinals; returns their ids, taken from the sequence so that their pages can be written as well."""
    numbers = "SELECT nextval(pg_get_serial_sequence('items', 'id')) FROM generate_series(1, :count)"
    ids = list(session.execute(text(numbers), {"count": len(items)}).scalars())
    rows = [
        (
            item_id,
            job_id,
            after + item.ordinal,
            item.bucket,
            item.key,
            item.etag,
            item.version_id,
            item.custom_id,
            item.member,
            item.size,
            orjson.dumps(item.options).decode() if item.options else None,
            state_of(item).value,
        )
        for item_id, item in zip(ids, items, strict=True)
    ]
    columns = "id, job_id, ordinal, bucket, key, etag, version_id, custom_id, member, bytes, options, state"
    try:
        _copy(session, f"COPY items ({columns}) FROM STDIN", rows)
    except UniqueViolation as exc:
        # Another producer wrote this chunk at the same moment, and committed first.
        raise LeaseLost from exc
    return ids


def state_of(item: NewItem) -> ItemState:
    """Where a new item stands."""
    if item.error is not None:
        return ItemState.FAILED
    return ItemState.PENDING if item.countable else ItemState.COUNTED


def copy_pages(session: Session, job_id: UUID, items: Sequence[NewItem], ids: Sequence[int]) -> None:
    """Single-page items get their page at once."""
    rows = [
        (item_id, job_id, 1)
        for item_id, item in zip(ids, items, strict=True)
        if not item.countable and item.error is None
    ]
    if rows:
        _copy(session, "COPY pages (item_id, job_id, number) FROM STDIN", rows)


def bury(session: Session, job_id: UUID, dead: Sequence[tuple[int, FleetError]], seq: int) -> None:
    """Items that have no pages end as their page number 0, dead, each with an outcome after `seq`."""
    if not dead:
        return
    query = """
        WITH buried AS (
            INSERT INTO pages (item_id, job_id, number, state, attempt)
            SELECT id, :job, 0, 'dead', 1 FROM unnest(CAST(:items AS bigint[])) AS i(id) RETURNING item_id, id
        ), kept AS (
            INSERT INTO attempts (page_id, fence, attempt, code, detail)
            SELECT b.id, 0, 1, e.code, e.detail FROM buried b JOIN unnest(
                CAST(:items AS bigint[]), CAST(:codes AS text[]), CAST(:details AS text[])
            ) AS e(item_id, code, detail) USING (item_id)
        )
        SELECT item_id, id FROM buried"""
    values = {
        "job": job_id,
        "items": [item for item, _ in dead],
        "codes": [error.code for _, error in dead],
        "details": [error.detail for _, error in dead],
    }
    page_ids = {row.item_id: row.id for row in session.execute(text(query), values)}
    rows = [
        outcomes.Outcome(
            page_ids[item], job_id, n, 0, 1, PageState.DEAD, error.code, outcomes.error_body(error)
        )
        for n, (item, error) in enumerate(dead, seq + 1)
    ]
    outcomes.write(session, rows)


@dataclass(frozen=True, slots=True)
class PendingItem:
    """An item whose pages are to be counted."""

    id: int
    job_id: UUID
    bucket: str
    key: str
    etag: str | None
    version_id: str | None
    options: Mapping[str, Any]
    """The item's own, over the job's."""
    member: str | None = None
    output: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The job's."""


@dataclass(frozen=True, slots=True)
class CountedItem:
    """What counting found: the pages that were asked for, or the error that stands for all of them."""

    item: PendingItem
    page_count: int = 0
    numbers: Sequence[int] = ()
    etag: str | None = None
    version_id: str | None = None
    error: FleetError | None = None
    size: int | None = None


def counted(session: Session, found: Sequence[CountedItem]) -> None:
    """Write the pages of counted items; an item counted twice, or of a canceled job, is left alone."""
    held = jobs.lock(session, [c.item.job_id for c in found])
    found = [c for c in found if c.item.job_id in held and held[c.item.job_id].accepts]
    query = """
        UPDATE items i SET state = f.state, page_count = f.page_count, leased_until = NULL,
            etag = coalesce(i.etag, f.etag), version_id = coalesce(i.version_id, f.version_id),
            bytes = coalesce(i.bytes, f.bytes)
        FROM unnest(CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:counts AS integer[]),
                    CAST(:etags AS text[]), CAST(:versions AS text[]), CAST(:sizes AS bigint[]))
            AS f(id, state, page_count, etag, version_id, bytes)
        WHERE i.id = f.id AND i.state = 'pending' RETURNING i.id"""
    values = {
        "ids": [c.item.id for c in found],
        "states": [(ItemState.FAILED if c.error else ItemState.COUNTED).value for c in found],
        "counts": [c.page_count for c in found],
        "etags": [c.etag for c in found],
        "versions": [c.version_id for c in found],
        "sizes": [c.size for c in found],
    }
    ours = {row.id for row in session.execute(text(query), values)}
    for job_id, job in sorted(held.items()):
        mine = [c for c in found if c.item.job_id == job_id and c.item.id in ours]
        if mine:
            _add_pages(session, job_id, mine, job.result_seq)
    notify(session, WORK)


def _add_pages(session: Session, job_id: UUID, found: Sequence[CountedItem], seq: int) -> None:
    rows = [(c.item.id, job_id, number) for c in found if c.error is None for number in c.numbers]
    if rows:
        _copy(session, "COPY pages (item_id, job_id, number) FROM STDIN", rows)
    dead = [(c.item.id, c.error) for c in found if c.error is not None]
    bury(session, job_id, dead, seq)
    delta = jobs.Delta(
        job_id, pending=-len(found), total=len(rows) + len(dead), dead=len(dead), results=len(dead)
    )
    jobs.advance(session, [delta])
