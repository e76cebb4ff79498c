"""Redrives: dead letters that run again, chunk by chunk, at a rate, with other options where asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import ValidationError
from sqlalchemy import Row, RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.store import audit, jobs
from ocrfleet.store.letters import LETTERS, LetterFilter, matching, subject
from ocrfleet.store.notify import WORK, notify

K = TypeVar("K")
CHUNK, STEP = 5000, 2000
"""Pages brought back in one transaction: at once, and by the leader, which has other things to do."""
# A canceled job is not run again by the back door, and a line that names no object can't be.
_LEFT_OUT = """CASE WHEN o.code = 'manifest_invalid' THEN o.code
    WHEN j.state IN ('canceling', 'canceled', 'failed') THEN j.state
    WHEN j.finished_at IS NULL AND j.deadline <= now() THEN 'deadline_exceeded' END"""


@dataclass(frozen=True, slots=True)
class NewRedrive:
    """What is to run again, and how."""

    tenant_id: UUID
    filter: LetterFilter
    override: Mapping[str, Any]
    """Options over those of the job and the item."""
    max_per_second: float | None = None
    reason: str | None = None
    request_id: UUID | None = None
    """Of the request that asks, which may be sent again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a redrive would do."""

    pages: int
    by_code: Mapping[str, int]
    by_job: Mapping[UUID, int]
    left_out: Mapping[str, int]
    """Letters that the filter meets and that can't run again, by the reason."""


def plan(session: Session, tenant_id: UUID, which: LetterFilter, made_at: datetime | None = None) -> Plan:
    """Count what a redrive made at that time, or now, has before it."""
    where, values = matching(tenant_id, which)
    query = f"""
        SELECT o.job_id, o.code, {_LEFT_OUT} AS left_out, count(*) AS pages FROM {LETTERS}
        WHERE {where} AND o.created_at <= coalesce(CAST(:made AS timestamptz), now()) GROUP BY 1, 2, 3"""
    by_code, by_job, left_out = Counter[str](), Counter[UUID](), Counter[str]()
    for row in session.execute(text(query), values | {"made": made_at}):
        if row.left_out:
            left_out[row.left_out] += row.pages
        else:
            by_code[row.code] += row.pages
            by_job[row.job_id] += row.pages
    return Plan(by_code.total(), _most_first(by_code), _most_first(by_job), _most_first(left_out))


def _most_first(counted: Counter[K]) -> dict[K, int]:
    return dict(counted.most_common())


def create(session: Session, asked: NewRedrive, actor: str, act: str = "redrive", chunk: int = CHUNK) -> int:
    """Make a redrive and bring the first chunk back; returns its id. `step` does the rest.

    The one that the same request has made is found instead.
    """
    query = """
        INSERT INTO redrives (tenant_id, filter, override, max_per_second, reason, request_id)
        VALUES (:tenant, CAST(:filter AS jsonb), CAST(:override AS jsonb), :rate, :reason, :request)
        ON CONFLICT (request_id) DO NOTHING RETURNING *"""
    values = {
        "tenant": asked.tenant_id,
        "filter": orjson.dumps(asked.filter.given).decode(),
        "override": orjson.dumps(asked.override).decode(),
        "rate": asked.max_per_second,
        "reason": asked.reason,
        "request": asked.request_id,
    }
    redrive = session.execute(text(query), values).one_or_none()
    if redrive is None:
        query = "SELECT id FROM redrives WHERE tenant_id = :tenant AND request_id = :request"
        return session.execute(text(query), values).scalar_one()
    brought = _advance(session, redrive, asked.filter, chunk)
    audit.record(
        session,
        asked.tenant_id,
        actor,
        act,
        subject(asked.filter),
        redrive=redrive.id,
        filter=asked.filter.given,
        override=disclosed(asked.override),
        max_per_second=asked.max_per_second,
        reason=asked.reason,
        pages_at_once=brought,
    )
    return redrive.id


HIDDEN = "********"
"""In the place of a password that is there."""


def disclosed(override: Mapping[str, Any]) -> dict[str, Any]:
    """The options without the secret among them."""
    return {name: HIDDEN if name == "password" else value for name, value in override.items()}


def step(session: Session, chunk: int = STEP) -> int:
    """Bring back a chunk of the oldest redrive that is not finished; returns how many pages. For the leader."""
    query = (
        "SELECT * FROM redrives WHERE finished_at IS NULL ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
    )
    redrive = session.execute(text(query)).one_or_none()
    if redrive is None:
        return 0
    which = _filter_of(redrive.filter)
    if which is None:
        session.execute(_GIVE_UP, {"redrive": redrive.id})
        return 0
    return _advance(session, redrive, which, chunk)


def _filter_of(stored: Mapping[str, Any]) -> LetterFilter | None:
    """None for one that another release has written and this one does not know."""
    try:
        return LetterFilter.model_validate(stored)
    except ValidationError:
        return None


_GIVE_UP = text("""
UPDATE redrives SET finished_at = now(), reason = concat_ws('; ', reason, 'ended: this release does not know its filter')
WHERE id = :redrive
""")


def _advance(session: Session, redrive: Row[Any], which: LetterFilter, chunk: int) -> int:
    where, values = matching(redrive.tenant_id, which)
    # Letters that came after the redrive are another's, above all those of its own pages.
    where = f"{where} AND o.created_at <= :made AND {_LEFT_OUT} IS NULL"
    values |= {"made": redrive.created_at, "redrive": redrive.id, "chunk": chunk}
    found = session.execute(
        text(
            f"SELECT o.page_id, o.job_id FROM {LETTERS} WHERE {where} ORDER BY o.created_at, o.page_id LIMIT :chunk"
        ),
        values,
    ).all()
    jobs.lock(session, [row.job_id for row in found])
    query = text(_BRING_BACK.format(letters=LETTERS, where=where))
    back = session.execute(query, values | {"ids": [row.page_id for row in found]}).all()
    _return_to_jobs(session, back)
    pages = sum(row.pages for row in back)
    session.execute(_MOVE_ON, {"redrive": redrive.id, "pages": pages, "done": len(found) < chunk})
    if pages:
        notify(session, WORK)
    return pages


# Asked again under the jobs' locks, which everybody holds who ends, discards or brings back a page.
# An item that could not be counted becomes its own first page, or the first that is wanted of it: the worker counts it.
_BRING_BACK = """
WITH locked AS (
    SELECT p.id, p.item_id, p.job_id, o.code, CASE WHEN p.number > 0 THEN p.number ELSE coalesce((
            SELECT min(CAST(found[1] AS integer)) FROM regexp_matches(
                coalesce(r.override ->> 'pages', i.options ->> 'pages', j.options ->> 'pages'),
                '(?:^|,)\\s*([0-9]{{1,9}})', 'g') AS found
        ), 1) END AS number, p.number = 0 AS uncounted, r.next_at, r.max_per_second
    FROM {letters} JOIN pages p ON p.id = o.page_id JOIN items i ON i.id = p.item_id
    JOIN redrives r ON r.id = :redrive
    WHERE {where} AND o.page_id = ANY(:ids) ORDER BY p.id FOR NO KEY UPDATE OF p
), due AS (
    SELECT *, row_number() OVER (ORDER BY id) - 1 AS place FROM locked
), gone AS (
    DELETE FROM outcomes o USING due WHERE o.page_id = due.id
), opened AS (
    UPDATE items i SET state = 'counted', page_count = NULL FROM due WHERE i.id = due.item_id AND due.uncounted
), back AS (
    UPDATE pages p SET state = 'ready', since = now(), failures = 0, redrive_id = :redrive,
        number = greatest(due.number, 1),
        not_before = greatest(due.next_at, now())
            + make_interval(secs => coalesce(due.place / due.max_per_second, 0))
    FROM due WHERE p.id = due.id RETURNING p.job_id, due.code
)
SELECT job_id, code, count(*) AS pages FROM back GROUP BY job_id, code
"""

_MOVE_ON = text("""
UPDATE redrives SET pages = pages + :pages, finished_at = CASE WHEN :done THEN now() END,
    next_at = greatest(next_at, now()) + make_interval(secs => coalesce(:pages / max_per_second, 0))
WHERE id = :redrive
""")


def _return_to_jobs(session: Session, back: Sequence[Row[Any]]) -> None:
    """Take what is no longer dead from the jobs' counters, and reopen those that had ended."""
    pages = Counter[UUID]()
    for row in back:
        pages[row.job_id] += row.pages
    if not pages:
        return
    values = {"jobs": list(pages), "pages": list(pages.values())}
    session.execute(_REOPEN, values)
    jobs.advance(session, [jobs.Delta(job_id, dead=-pages[job_id]) for job_id in sorted(pages)])
    query = """
        UPDATE job_errors e SET pages = e.pages - b.pages
        FROM unnest(CAST(:jobs AS uuid[]), CAST(:codes AS text[]), CAST(:pages AS bigint[])) AS b(job_id, code, pages)
        WHERE e.job_id = b.job_id AND e.code = b.code"""
    values = {name: [getattr(row, name) for row in back] for name in ("job_id", "code", "pages")}
    session.execute(
        text(query), {"jobs": values["job_id"], "codes": values["code"], "pages": values["pages"]}
    )


# A deadline that has passed was that of the generation before; it would cancel the next one at once. The samples of
# throughput go on from what is left.
_REOPEN = text("""
UPDATE jobs j SET
    state = CASE WHEN j.finished_at IS NULL THEN j.state ELSE 'running' END,
    generation = j.generation + CASE WHEN j.finished_at IS NULL THEN 0 ELSE 1 END,
    deadline = CASE WHEN j.finished_at IS NULL OR j.deadline > now() THEN j.deadline END,
    started_at = CASE WHEN j.finished_at IS NULL THEN j.started_at ELSE coalesce(j.started_at, now()) END,
    throughput = CASE WHEN j.finished_at IS NULL THEN j.throughput END,
    sampled_at = CASE WHEN j.finished_at IS NULL THEN j.sampled_at ELSE now() END,
    sampled_done = CASE WHEN j.finished_at IS NULL THEN greatest(j.sampled_done - b.pages, 0)
                        ELSE j.succeeded + j.dead - b.pages END,
    output_leased_until = CASE WHEN j.output ->> 'per_item' = 'true' THEN coalesce(j.output_leased_until, now()) END,
    finished_at = NULL, outcome = NULL
FROM unnest(CAST(:jobs AS uuid[]), CAST(:pages AS bigint[])) AS b(job_id, pages) WHERE j.id = b.job_id
""")

_SELECT = """
SELECT r.*, p.* FROM redrives r CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state IN ('ready', 'dispatched')) AS ready,
           count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'canceled') AS canceled
    FROM pages WHERE redrive_id = r.id
) p
WHERE r.tenant_id = :tenant"""


def get(session: Session, tenant_id: UUID, redrive_id: int) -> tuple[RowMapping, Plan] | None:
    """A redrive with the states of its pages, and the letters that its filter still meets."""
    query = text(f"{_SELECT} AND r.id = :redrive")
    row = session.execute(query, {"tenant": tenant_id, "redrive": redrive_id}).mappings().one_or_none()
    if row is None:
        return None
    which = _filter_of(row["filter"])
    left = plan(session, tenant_id, which, row["created_at"]) if which else Plan(0, {}, {}, {})
    return row, left


def listing(
    session: Session, tenant_id: UUID, *, limit: int, before: int | None = None
) -> Sequence[RowMapping]:
    """Redrives, newest first, from the one after `before` (an id), each with the states of its pages."""
    query = text(f"{_SELECT} AND r.id < coalesce(:before, r.id + 1) ORDER BY r.id DESC LIMIT :limit")
    values = {"tenant": tenant_id, "before": before, "limit": limit}
    return session.execute(query, values).mappings().all()
