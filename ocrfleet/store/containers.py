"""Archives: one becomes an item for each file in it, when its members are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.store import jobs
from ocrfleet.store.expansion import NewItem, PendingItem, bury, copy_items, copy_pages, state_of
from ocrfleet.store.notify import WORK, notify

ORDINALS = 1 << 31
"""The members of the item at ordinal n are numbered from (n + 1) times this, but for the first, which keeps n."""


@dataclass(frozen=True, slots=True)
class RedrivenPage:
    """A page that stands for an archive, leased until this transaction."""

    id: int
    item_id: int
    job_id: UUID


@dataclass(frozen=True, slots=True)
class Grown:
    """What a job got: items, each with a page, and how many of those are dead letters from the start."""

    items: int = 0
    dead: int = 0


def unpack(session: Session, item: PendingItem, members: Sequence[NewItem]) -> bool:
    """Put the members in the archive's place, each with its custom_id and options; False if somebody else has.

    Those that need not be counted get their page. Without members the item is gone.
    """
    held = jobs.lock(session, [item.job_id])
    if item.job_id not in held or not held[item.job_id].accepts:
        return False
    if not members:
        return _drop(session, item)
    first, rest = members[0], members[1:]
    query = """
        UPDATE items i SET member = :member, state = :state, bytes = :bytes, leased_until = NULL,
            etag = coalesce(i.etag, :etag), version_id = coalesce(i.version_id, :version)
        WHERE i.id = :id AND i.state = 'pending' AND i.member IS NULL RETURNING i.ordinal"""
    values = {
        "id": item.id,
        "member": first.member,
        "state": state_of(first).value,
        "bytes": first.size,
        "etag": first.etag,
        "version": first.version_id,
    }
    ordinal = session.execute(text(query), values).scalar()
    if ordinal is None:
        return False
    ids = [item.id, *_copy(session, item.job_id, item.id, ordinal, rest)]
    copy_pages(session, item.job_id, members, ids)
    dead = [(found, one.error) for found, one in zip(ids, members, strict=True) if one.error is not None]
    bury(session, item.job_id, dead, held[item.job_id].result_seq)
    delta = jobs.Delta(
        item.job_id,
        items=len(rest),
        pending=sum(one.countable for one in members) - 1,
        total=sum(not one.countable for one in members),
        dead=len(dead),
        results=len(dead),
    )
    jobs.advance(session, [delta])
    notify(session, WORK)
    return True


def _copy(
    session: Session, job_id: UUID, archive: int, ordinal: int, members: Sequence[NewItem]
) -> list[int]:
    """Add items for the members behind the first, which is the archive's own item; their ids."""
    ids = copy_items(session, job_id, members, after=(ordinal + 1) * ORDINALS)
    # What the line said of the archive goes for all that it holds.
    query = """
        UPDATE items i SET custom_id = a.custom_id, options = a.options FROM items a
        WHERE a.id = :id AND i.id = ANY(:ids) AND (a.custom_id IS NOT NULL OR a.options IS NOT NULL)"""
    session.execute(text(query), {"id": archive, "ids": ids})
    return ids


def unpack_redriven(session: Session, page: RedrivenPage, members: Sequence[NewItem], seq: int) -> Grown:
    """Put the members in the place of an archive whose page a redrive has brought back, and a worker has read.

    The page is the first member's from now on. Each of the others gets one, of the same redrive; how many pages it has
    is found out by whoever reads it, as with any document that could not be counted. Dead ones have their results
    after `seq`. The job's row is locked; its counters are the caller's.
    """
    first, rest = members[0], [replace(one, countable=False) for one in members[1:]]
    query = """
        UPDATE items i SET member = :member, bytes = :bytes, state = :state,
            page_count = CASE WHEN :state = 'failed' THEN 0 END,
            etag = coalesce(i.etag, :etag), version_id = coalesce(i.version_id, :version)
        WHERE i.id = :id AND i.member IS NULL RETURNING i.ordinal"""
    values = {
        "id": page.item_id,
        "member": first.member,
        "bytes": first.size,
        "state": state_of(replace(first, countable=False)).value,
        "etag": first.etag,
        "version": first.version_id,
    }
    ordinal = session.execute(text(query), values).scalar()
    if ordinal is None:
        return Grown()
    if first.error is not None:
        session.execute(text("UPDATE pages SET number = 0 WHERE id = :id"), {"id": page.id})
    ids = _copy(session, page.job_id, page.item_id, ordinal, rest)
    # The first page that is wanted of the one is that of the others.
    query = """
        INSERT INTO pages (item_id, job_id, number, redrive_id)
        SELECT i.id, p.job_id, greatest(p.number, 1), p.redrive_id
        FROM pages p CROSS JOIN unnest(CAST(:ids AS bigint[])) AS i(id) WHERE p.id = :page"""
    alive = [found for found, one in zip(ids, rest, strict=True) if one.error is None]
    session.execute(text(query), {"ids": alive, "page": page.id})
    dead = [(found, one.error) for found, one in zip(ids, rest, strict=True) if one.error is not None]
    bury(session, page.job_id, dead, seq)
    return Grown(len(rest), len(dead))


def _drop(session: Session, item: PendingItem) -> bool:
    query = "DELETE FROM items WHERE id = :id AND state = 'pending' AND member IS NULL RETURNING 1"
    if session.execute(text(query), {"id": item.id}).scalar() is None:
        return False
    jobs.advance(session, [jobs.Delta(item.job_id, items=-1, pending=-1)])
    return True
