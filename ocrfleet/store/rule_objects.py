"""What rules have taken: of each object the version that came last, so that old news brings nothing back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

FORGOTTEN = 1000
"""Rows that one call of `forget` takes away at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version of an object that an event or a listing has told of."""

    key: str
    etag: str
    version_id: str | None = None
    sequencer: str | None = None
    """The store's own, by which events of one key are ordered."""
    at: datetime | None = None
    """When the store says that it came into being; when the listing was asked for that has shown it."""
    listed: bool = False


def clock(session: Session) -> datetime:
    """The database's time."""
    return session.execute(text("SELECT now()")).scalar_one()


def news(session: Session, rule_id: int, objects: Sequence[Found]) -> list[Found]:
    """Of each key the newest version, if it is another than the one that the locked rule has taken last.

    That a version is there still, or again, is remembered: what was in between is old news from now on.
    """
    newest: dict[str, Found] = {}
    for one in objects:
        if one.key not in newest or not _older(one, newest[one.key]):
            newest[one.key] = one
    if not newest:
        return []
    # Listings tell of the same objects again and again: a write a day is enough for `forget`.
    query = """
        SELECT key, etag, sequencer, happened_at AS at, seen_at < now() - interval '1 day' AS unseen
        FROM rule_objects WHERE rule_id = :rule AND key = ANY(:keys)"""
    rows = session.execute(text(query), {"rule": rule_id, "keys": list(newest)})
    known = {row.key: row for row in rows}
    told = [one for one in newest.values() if one.key not in known or not _older(one, known[one.key])]
    there = {one.key for one in told if one.key in known and one.etag == known[one.key].etag}
    again = [one for one in told if one.key in there and (not one.listed or known[one.key].unseen)]
    remember(session, rule_id, again)
    return [one for one in told if one.key not in there]


def _older(one: Found, other: Found | Row[Any]) -> bool:
    """Whether the other came later; where nobody can tell, what is told last counts."""
    if one.sequencer and other.sequencer:
        # As AWS says: the shorter one is padded on the right.
        size = max(len(one.sequencer), len(other.sequencer))
        return one.sequencer.ljust(size, "0") < other.sequencer.ljust(size, "0")
    return one.at is not None and other.at is not None and one.at < other.at


def remember(session: Session, rule_id: int, objects: Sequence[Found]) -> None:
    """The locked rule has taken these, one version of each key, or they are there as before."""
    if not objects:
        return
    query = """
        INSERT INTO rule_objects AS r (rule_id, key, etag, version_id, sequencer, happened_at)
        SELECT :rule, * FROM unnest(
            CAST(:keys AS text[]), CAST(:etags AS text[]), CAST(:versions AS text[]), CAST(:sequencers AS text[]),
            CAST(:times AS timestamptz[]))
        ON CONFLICT (rule_id, key) DO UPDATE SET
            etag = excluded.etag, version_id = excluded.version_id, seen_at = now(),
            sequencer = CASE WHEN r.etag = excluded.etag THEN coalesce(excluded.sequencer, r.sequencer)
                             ELSE excluded.sequencer END,
            happened_at = CASE WHEN r.etag = excluded.etag THEN greatest(excluded.happened_at, r.happened_at)
                               ELSE excluded.happened_at END"""
    values = {
        "rule": rule_id,
        "keys": [one.key for one in objects],
        "etags": [one.etag for one in objects],
        "versions": [one.version_id for one in objects],
        "sequencers": [one.sequencer for one in objects],
        "times": [one.at for one in objects],
    }
    session.execute(text(query), values)


def forget(session: Session, rule_id: int, since: datetime) -> int:
    """Forget objects that are gone: a listing begun at `since` has not shown them, nor any of the week before.

    Returns how many; below FORGOTTEN there are no more. A week, since not every store's listings are in order.
    """
    query = """
        DELETE FROM rule_objects WHERE rule_id = :rule AND key IN (
            SELECT key FROM rule_objects WHERE rule_id = :rule AND seen_at < :since - interval '7 days'
            ORDER BY seen_at LIMIT :limit) RETURNING 1"""
    values = {"rule": rule_id, "since": since, "limit": FORGOTTEN}
    return len(session.execute(text(query), values).all())
