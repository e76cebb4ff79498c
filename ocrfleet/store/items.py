"""Items as callers see them: each with its state, its pages by state, and what was tried with them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.store.letters import TAIL

STATES = ("pending", "running", "succeeded", "partial", "dead", "canceled")
"""Of an item, by its pages: not counted yet, some unfinished, all read, some read, none read, all canceled."""
SCANNED = 5000
"""Items that one page of a list looks at; a filter that meets few of them gives a short page, and goes on."""

COUNTED = """
CROSS JOIN LATERAL (
    SELECT count(*) AS pages, count(*) FILTER (WHERE p.state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE p.state = 'dead') AS dead, count(*) FILTER (WHERE p.state = 'canceled') AS canceled,
           count(*) FILTER (WHERE p.state = 'running') AS running,
           count(*) FILTER (WHERE p.state = 'dispatched') AS dispatched,
           count(*) FILTER (WHERE p.state = 'ready') AS ready
    FROM pages p WHERE p.item_id = i.id
) c
CROSS JOIN LATERAL (
    SELECT CASE WHEN i.state = 'pending' THEN 'pending'
                WHEN c.ready + c.dispatched + c.running > 0 THEN 'running'
                WHEN c.pages = c.canceled THEN 'canceled'
                WHEN c.pages = c.succeeded THEN 'succeeded'
                WHEN c.succeeded > 0 THEN 'partial'
                WHEN c.dead > 0 THEN 'dead' ELSE 'canceled' END AS state
) s
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.dead > 0 THEN (
        SELECT o.code FROM pages p JOIN outcomes o ON o.page_id = p.id
        WHERE p.item_id = i.id AND p.state = 'dead' AND o.state = 'dead' ORDER BY p.number LIMIT 1
    ) END AS code
) e
"""
"""Beside an item `i`: its pages by state in `c`, its own state in `s`, the code of its first dead page in `e`."""

_COLUMNS = """
i.id, i.job_id, i.ordinal, i.bucket, i.key, i.member, i.etag, i.version_id, i.bytes, i.custom_id, i.page_count,
s.state, e.code, c.pages, c.succeeded, c.dead, c.canceled, c.running, c.dispatched, c.ready"""
_OF_TENANT = "j.tenant_id = :tenant AND j.purged_at IS NULL"


def listing(
    session: Session,
    tenant_id: UUID,
    job_id: UUID,
    *,
    limit: int,
    after: int = -1,
    state: str | None = None,
    custom_id: str | None = None,
    key: str | None = None,
    scanned: int = SCANNED,
) -> tuple[Sequence[RowMapping], int | None]:
    """Items of a tenant's job by ordinal, from the one behind `after`; and the ordinal behind which there may be more.

    With a filter there may be fewer than `limit` although there are more: `scanned` items are looked at.
    """
    wanted = {"s.state": state, "i.custom_id": custom_id, "i.key": key}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(["true", *(f"{name} = :{name[2:]}" for name in given)])
    query = f"""
        SELECT {_COLUMNS} FROM (
            SELECT x.* FROM items x JOIN jobs j ON j.id = x.job_id
            WHERE x.job_id = :job AND {_OF_TENANT} AND x.ordinal > :after ORDER BY x.ordinal LIMIT :scanned
        ) i {COUNTED} WHERE {where} ORDER BY i.ordinal LIMIT :limit"""
    values: dict[str, Any] = {"tenant": tenant_id, "job": job_id, "after": after, "scanned": scanned}
    values |= {name[2:]: value for name, value in given.items()}
    # One more than asked for, to know whether there is a next page.
    rows = session.execute(text(query), values | {"limit": limit + 1}).mappings().all()
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1]["ordinal"]
    query = f"""
        SELECT x.ordinal FROM items x JOIN jobs j ON j.id = x.job_id
        WHERE x.job_id = :job AND {_OF_TENANT} AND x.ordinal > :after ORDER BY x.ordinal OFFSET :scanned - 1 LIMIT 1"""
    return rows, session.execute(text(query), values).scalar()


def get(session: Session, tenant_id: UUID, item_id: int) -> RowMapping | None:
    """One item of a tenant's."""
    query = f"""
        SELECT {_COLUMNS} FROM items i JOIN jobs j ON j.id = i.job_id {COUNTED} WHERE i.id = :item AND {_OF_TENANT}"""
    return session.execute(text(query), {"item": item_id, "tenant": tenant_id}).mappings().one_or_none()


def pages(
    session: Session, tenant_id: UUID, item_id: int, *, limit: int, after: int = -1
) -> Sequence[RowMapping]:
    """An item's pages by number, from the one behind `after`; 0 is the item that could not be counted."""
    query = f"""
        SELECT p.id, p.number, p.state, p.attempt, p.failures, p.losses, p.since, o.seq, o.code,
               o.body -> 'error' ->> 'detail' AS detail
        FROM pages p JOIN jobs j ON j.id = p.job_id LEFT JOIN outcomes o ON o.page_id = p.id AND o.state = p.state
        WHERE p.item_id = :item AND {_OF_TENANT} AND p.number > :after ORDER BY p.number LIMIT :limit"""
    values = {"item": item_id, "tenant": tenant_id, "after": after, "limit": limit}
    return session.execute(text(query), values).mappings().all()


def attempts(
    session: Session, tenant_id: UUID, item_id: int, *, limit: int, after: tuple[int, int] = (-1, -1)
) -> Sequence[RowMapping]:
    """What was tried with an item's pages and failed, by page and fence, from the one behind `after`."""
    query = f"""
        SELECT p.id AS page_id, p.number, a.attempt, a.fence, a.code, a.detail, a.parameters - 'partial' AS parameters,
               right(a.parameters ->> 'partial', :tail) AS raw_tail, a.worker, a.device, a.model, a.revision,
               a.exclusive = 1 AS exclusive, a.timings_ms, a.started_at, a.ended_at, a.thumbnail
        FROM pages p JOIN jobs j ON j.id = p.job_id JOIN attempts a ON a.page_id = p.id
        WHERE p.item_id = :item AND {_OF_TENANT} AND p.number >= :number AND (p.number, a.fence) > (:number, :fence)
        ORDER BY p.number, a.fence LIMIT :limit"""
    values = {"item": item_id, "tenant": tenant_id, "number": after[0], "fence": after[1]}
    return session.execute(text(query), values | {"limit": limit, "tail": TAIL}).mappings().all()
