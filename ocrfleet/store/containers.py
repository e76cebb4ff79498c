"""Archives: one becomes an item for each file in it, when its members are known."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.store import jobs
from ocrfleet.store.expansion import NewItem, PendingItem, bury, copy_items, copy_pages, state_of
from ocrfleet.store.notify import WORK, notify

ORDINALS = 1 << 31
"""The members of the item at ordinal n are numbered from (n + 1) times this, but for the first, which keeps n."""


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
    ids = [item.id, *copy_items(session, item.job_id, rest, after=(ordinal + 1) * ORDINALS)]
    # What the line said of the archive goes for all that it holds.
    query = """
        UPDATE items i SET custom_id = a.custom_id, options = a.options FROM items a
        WHERE a.id = :id AND i.id = ANY(:ids) AND (a.custom_id IS NOT NULL OR a.options IS NOT NULL)"""
    session.execute(text(query), {"id": item.id, "ids": ids[1:]})
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


def _drop(session: Session, item: PendingItem) -> bool:
    query = "DELETE FROM items WHERE id = :id AND state = 'pending' AND member IS NULL RETURNING 1"
    if session.execute(text(query), {"id": item.id}).scalar() is None:
        return False
    jobs.advance(session, [jobs.Delta(item.job_id, items=-1, pending=-1)])
    return True
