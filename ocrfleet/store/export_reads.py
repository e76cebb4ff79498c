"""What an export reads of its job: the items in order, and their pages with what they came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from ocrfleet.store.items import COUNTED


@dataclass(frozen=True, slots=True)
class ExportItem:
    """An item with what its pages have come to; `state` is one of `items.STATES`."""

    id: int
    ordinal: int
    bucket: str
    key: str
    member: str | None
    etag: str | None
    version_id: str | None
    custom_id: str | None
    options: Mapping[str, Any] | None
    page_count: int | None
    pages: int
    state: str
    code: str | None

    @property
    def name(self) -> str:
        """What its output is called by: its key, and the path within where that is an archive."""
        return f"{self.key}/{self.member}" if self.member else self.key


def extent(session: Session, job_id: UUID) -> tuple[int, bool]:
    """The last ordinal of the job's items, -1 without any; and whether two of them have the same name."""
    query = """
        SELECT coalesce(max(ordinal), -1) AS last, count(*) > count(DISTINCT key || coalesce('/' || member, '')) AS repeated
        FROM items WHERE job_id = :job"""
    row = session.execute(text(query), {"job": job_id}).one()
    return row.last, row.repeated


def occurrences(session: Session, job_id: UUID, items: Sequence[ExportItem]) -> dict[int, int]:
    """By ordinal, the how-manieth of its name in the job each of these items is, from 1."""
    query = """
        SELECT ordinal, n FROM (
            SELECT ordinal, row_number() OVER (PARTITION BY name ORDER BY ordinal) AS n FROM (
                SELECT ordinal, key || coalesce('/' || member, '') AS name FROM items
                WHERE job_id = :job AND ordinal <= :last
            ) named WHERE name = ANY(:names)
        ) counted WHERE ordinal = ANY(:ordinals)"""
    ordinals = [item.ordinal for item in items]
    values = {
        "job": job_id,
        "last": max(ordinals),
        "names": [item.name for item in items],
        "ordinals": ordinals,
    }
    return {row.ordinal: row.n for row in session.execute(text(query), values)}


def items(session: Session, job_id: UUID, *, after: int, last: int, limit: int) -> list[ExportItem]:
    """Items behind the ordinal `after` up to `last`."""
    query = f"""
        SELECT i.id, i.ordinal, i.bucket, i.key, i.member, i.etag, i.version_id, i.custom_id, i.options, i.page_count,
               c.pages, s.state, e.code
        FROM items i {COUNTED}
        WHERE i.job_id = :job AND i.ordinal > :after AND i.ordinal <= :last ORDER BY i.ordinal LIMIT :limit"""
    values = {"job": job_id, "after": after, "last": last, "limit": limit}
    return [ExportItem(*row) for row in session.execute(text(query), values)]


_PAGES = text("""
SELECT i.ordinal, p.number, p.state AS page_state, o.code, o.seq, o.state, o.attempt, CAST(o.body AS text) AS body,
       p.job_id, p.item_id, nullif(p.number, 0) AS page, i.custom_id, i.bucket, i.key, i.member
FROM items i JOIN pages p ON p.item_id = i.id LEFT JOIN outcomes o ON o.page_id = p.id AND o.state = p.state
WHERE i.job_id = :job AND i.ordinal BETWEEN :ordinal AND :last AND (i.ordinal, p.number) > (:ordinal, :number)
ORDER BY i.ordinal, p.number LIMIT :limit
""")


def pages(
    session: Session, job_id: UUID, *, after: tuple[int, int], last: int, limit: int
) -> Sequence[Row[Any]]:
    """Pages behind (ordinal, number) up to the item `last`, in order; for `outcomes.line` where `seq` is not None."""
    values = {"job": job_id, "ordinal": after[0], "number": after[1], "last": last, "limit": limit}
    return session.execute(_PAGES, values).all()
