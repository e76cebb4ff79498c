"""Usage: what pages cost, by job and UTC day; written with the outcomes themselves, so that each counts once.

A page that is retried costs its tenant nothing until it ends; one that died and is redriven has two outcomes. The rows
are locked after the rows of their jobs, and outlive them. Those of interactive jobs, which have one page each, are
folded into one of their tenant and day: afterwards, since in the flush itself that row would be everybody's lock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session


class Spent(NamedTuple):
    """What one page took."""

    bytes: int = 0
    """Its share of its object."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """In the engine."""
    cached: bool = False


NOTHING = Spent()


@dataclass(slots=True)
class Tally:
    """What a flush adds to the usage of one job."""

    pages: int = 0
    dead: int = 0
    cached: int = 0
    bytes: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, spent: Spent, *, dead: bool) -> None:
        """Count one page that has ended."""
        self.pages += 1
        self.dead += dead
        if spent is not NOTHING:
            self.cached += spent.cached
            self.bytes += spent.bytes
            self.prompt_tokens += spent.prompt_tokens
            self.output_tokens += spent.output_tokens
            self.seconds += spent.seconds


_COLUMNS = (
    "job_id, day, tenant_id, interactive, pages, dead, cached, bytes, prompt_tokens, output_tokens, seconds"
)
_SUM_UP = """
ON CONFLICT (job_id, day) DO UPDATE SET
    pages = u.pages + excluded.pages, dead = u.dead + excluded.dead, cached = u.cached + excluded.cached,
    bytes = u.bytes + excluded.bytes, prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens, seconds = u.seconds + excluded.seconds
"""

_ADD = text(f"""
INSERT INTO usage AS u ({_COLUMNS})
SELECT n.job_id, CAST(now() AT TIME ZONE 'UTC' AS date), j.tenant_id, j.lane = 'interactive', n.pages, n.dead,
       n.cached, n.bytes, n.prompt_tokens, n.output_tokens, n.seconds
FROM json_to_recordset(CAST(:rows AS json)) AS n(
    job_id uuid, pages bigint, dead bigint, cached bigint, bytes bigint, prompt_tokens bigint, output_tokens bigint,
    seconds float
) JOIN jobs j ON j.id = n.job_id
ORDER BY n.job_id
{_SUM_UP}""")


def add(session: Session, tallies: Mapping[UUID, Tally]) -> None:
    """Add to today's usage of jobs whose rows this transaction holds."""
    rows = [{"job_id": job_id, **_members(tally)} for job_id, tally in tallies.items()]
    session.execute(_ADD, {"rows": orjson.dumps(rows).decode()})


_COUNTED = ("pages", "dead", "cached", "bytes", "prompt_tokens", "output_tokens", "seconds")


def _members(tally: Tally) -> dict[str, Any]:
    return {name: getattr(tally, name) for name in _COUNTED}


_FOLD = text(f"""
WITH single AS (
    DELETE FROM usage WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM usage WHERE interactive AND job_id <> tenant_id ORDER BY day LIMIT :limit
        FOR UPDATE SKIP LOCKED)) RETURNING *
)
INSERT INTO usage AS u ({_COLUMNS})
SELECT tenant_id, day, tenant_id, true, sum(pages), sum(dead), sum(cached), sum(bytes), sum(prompt_tokens),
       sum(output_tokens), sum(seconds)
FROM single GROUP BY tenant_id, day ORDER BY tenant_id, day
{_SUM_UP}""")


def fold(session: Session, limit: int = 5000) -> None:
    """Make one row of what interactive jobs of a tenant have used in a day; the sums stay what they are."""
    session.execute(_FOLD, {"limit": limit})


NO_JOB = UUID(int=0)
"""Stands for all interactive jobs together."""
Group = Literal["job", "day", "tenant"]
_BY_JOB = f"CASE WHEN u.interactive THEN '{NO_JOB}' ELSE u.job_id END"
_KEYS: Mapping[Group, str] = {"job": _BY_JOB, "day": "u.day", "tenant": "t.name"}
_SUMS = ", ".join(
    f"CAST(coalesce(sum(u.{name}), 0) AS {'double precision' if name == 'seconds' else 'bigint'}) AS {name}"
    for name in _COUNTED
)
_WITHIN = """
FROM usage u JOIN tenants t ON t.id = u.tenant_id
WHERE u.day BETWEEN :first AND :last AND (u.tenant_id = :tenant OR CAST(:tenant AS uuid) IS NULL)"""


def grouped(
    session: Session,
    tenant_id: UUID | None,
    group: Group,
    *,
    first: date,
    last: date,
    limit: int,
    after: object = None,
) -> Sequence[RowMapping]:
    """Sums over the days `first` to `last` by job, day or tenant's name, as `key`, ascending from after `after`.

    Of one tenant, or with None of all. Interactive jobs are one, NO_JOB.
    """
    key = _KEYS[group]
    onward = "" if after is None else f"AND {key} > :after"
    named = ", t.id AS tenant_id" if group == "tenant" else ""
    by = f"{key}, t.id" if group == "tenant" else key
    query = (
        f"SELECT {key} AS key{named}, {_SUMS} {_WITHIN} {onward} GROUP BY {by} ORDER BY {key} LIMIT :limit"
    )
    values = {"tenant": tenant_id, "first": first, "last": last, "limit": limit, "after": after}
    return session.execute(text(query), values).mappings().all()


def total(session: Session, tenant_id: UUID | None, *, first: date, last: date) -> RowMapping:
    """The sum of it all."""
    values = {"tenant": tenant_id, "first": first, "last": last}
    return session.execute(text(f"SELECT {_SUMS} {_WITHIN}"), values).mappings().one()
