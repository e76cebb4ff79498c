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


def extent(session: Session, job_id: UUID) -> int:
    """The last ordinal of the job's items, -1 without any."""
    query = "SELECT coalesce(max(ordinal), -1) FROM items WHERE job_id = :job"
    return session.execute(text(query), {"job": job_id}).scalar_one()


def note_names(session: Session, export_id: UUID, job_id: UUID, last: int) -> bool:
    """Write down once which items up to `last` have a name that came before; whether any has.

    A sort of all their names: seconds for each million.
    """
    query = """
        INSERT INTO export_names (export_id, ordinal, occurrence)
        SELECT :export, ordinal, n FROM (
            SELECT ordinal, row_number() OVER (PARTITION BY key || coalesce('/' || member, '') ORDER BY ordinal) AS n
            FROM items WHERE job_id = :job AND ordinal <= :last
        ) named WHERE n > 1 ON CONFLICT DO NOTHING"""
    values = {"export": export_id, "job": job_id, "last": last}
    return session.connection().execute(text(query), values).rowcount > 0


def occurrences(session: Session, export_id: UUID, first: int, last: int) -> dict[int, int]:
    """By ordinal, the how-manieth of its name an item between these is, where it is not the first."""
    query = """
        SELECT ordinal, occurrence FROM export_names WHERE export_id = :export AND ordinal BETWEEN :first AND :last"""
    values = {"export": export_id, "first": first, "last": last}
    return {row.ordinal: row.occurrence for row in session.execute(text(query), values)}


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
