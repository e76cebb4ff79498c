"""Outcomes, one per page, and the attempts that failed; the stream of a job's results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from ocrfleet.errors import FleetError
from ocrfleet.states import PageState
from ocrfleet.store import usage
from ocrfleet.store.usage import NOTHING, Spent, Tally


@dataclass(frozen=True, slots=True)
class Outcome:
    """A page's one outcome; `seq` is its place in the job's results."""

    page_id: int
    job_id: UUID
    seq: int
    fence: int
    attempt: int
    state: PageState
    code: str | None
    body: str
    spent: Spent = NOTHING


_WRITE = text("""
INSERT INTO outcomes AS o (page_id, job_id, seq, fence, attempt, state, code, body)
SELECT page_id, job_id, seq, fence, attempt, state, code, body FROM json_to_recordset(CAST(:rows AS json)) AS n(
    page_id bigint, job_id uuid, seq bigint, fence integer, attempt smallint, state text, code text, body json
)
ON CONFLICT (page_id) DO UPDATE SET
    seq = excluded.seq, fence = excluded.fence, attempt = excluded.attempt, state = excluded.state,
    code = excluded.code, body = excluded.body, created_at = now()
WHERE o.fence < excluded.fence
""")

_COUNT_ERRORS = text("""
INSERT INTO job_errors AS e (job_id, code, pages)
SELECT job_id, code, count(*) FROM unnest(CAST(:job_id AS uuid[]), CAST(:code AS text[])) AS n(job_id, code)
GROUP BY job_id, code ORDER BY job_id, code
ON CONFLICT (job_id, code) DO UPDATE SET pages = e.pages + excluded.pages
""")


def write(session: Session, rows: Sequence[Outcome]) -> None:
    """Write outcomes; one that is there is replaced only by a higher fence. The jobs' rows are locked."""
    if not rows:
        return
    # Bodies are JSON already: they go into the array as they are.
    written = [
        {
            "page_id": row.page_id,
            "job_id": row.job_id,
            "seq": row.seq,
            "fence": row.fence,
            "attempt": row.attempt,
            "state": row.state,
            "code": row.code,
            "body": orjson.Fragment(row.body),
        }
        for row in rows
    ]
    session.execute(_WRITE, {"rows": orjson.dumps(written).decode()})
    tallies: dict[UUID, Tally] = {}
    for row in rows:
        tallies.setdefault(row.job_id, Tally()).add(row.spent, dead=row.code is not None)
    usage.add(session, tallies)
    dead = [row for row in rows if row.code is not None]
    if dead:
        session.execute(
            _COUNT_ERRORS, {"job_id": [row.job_id for row in dead], "code": [row.code for row in dead]}
        )


WINDOW = 20_000
"""Places in the stream that one read looks at: a filter that meets few of them ends it as soon."""

_STREAM = """
SELECT o.seq, o.state, o.attempt, CAST(o.body AS text) AS body,
       p.job_id, p.item_id, nullif(p.number, 0) AS page, i.custom_id, i.bucket, i.key, i.member
FROM outcomes o JOIN pages p ON p.id = o.page_id JOIN items i ON i.id = p.item_id
WHERE o.job_id = :job AND o.seq > :after
"""
_IN_ORDER = " ORDER BY o.seq LIMIT :limit"


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which results are meant; what is given must all hold."""

    state: str | None = None
    code: str | None = None
    custom_id: str | None = None

    @property
    def given(self) -> dict[str, str]:
        members = {"o.state": self.state, "o.code": self.code, "i.custom_id": self.custom_id}
        return {column: value for column, value in members.items() if value is not None}


ALL = ResultFilter()


def after(session: Session, job_id: UUID, seq: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Up to `limit` outcomes after `seq`, each as (seq, its JSON line). The caller has checked the tenant."""
    for row in session.execute(text(_STREAM + _IN_ORDER), {"job": job_id, "after": seq, "limit": limit}):
        yield row.seq, line(row)


def chosen(
    session: Session, job_id: UUID, seq: int, limit: int, which: ResultFilter, *, window: int = WINDOW
) -> tuple[list[bytes], int]:
    """Lines of the outcomes after `seq` that are meant, and the place up to which none is left out.

    Looks at `window` places at most. Nothing more is there when the place is the one that was given.
    """
    # Asked first: all results up to there can be read from now on, since both are written under the job's lock.
    last = session.execute(text("SELECT result_seq FROM jobs WHERE id = :job"), {"job": job_id}).scalar() or 0
    end = min(last, seq + window)
    given = which.given
    clauses = ["AND o.seq <= :end", *(f"AND {column} = :{column[2:]}" for column in given)]
    values = {"job": job_id, "after": seq, "end": end, "limit": limit}
    values |= {column[2:]: value for column, value in given.items()}
    rows = session.execute(text(_STREAM + " ".join(clauses) + _IN_ORDER), values).all()
    reached = rows[-1].seq if len(rows) == limit else max(seq, end)
    return [line(row) for row in rows], reached


def line(row: Row[tuple[object, ...]]) -> bytes:
    """A result or error line: the record's members, then the body's, spliced without parsing it."""
    head = orjson.dumps(
        {
            "seq": row.seq,
            "job_id": str(row.job_id),
            "item_id": str(row.item_id),
            "custom_id": row.custom_id,
            "bucket": row.bucket,
            "key": row.key,
            # Only where the object is an archive.
            **({"member": row.member} if row.member else {}),
            "page": row.page,
            "state": row.state,
            "attempt": row.attempt,
        }
    )
    body = row.body.encode()
    return head[:-1] + (b"," + body[1:] if body != b"{}" else b"}") + b"\n"


def error_body(error: FleetError) -> str:
    """The body of a dead page's outcome."""
    members = {"code": error.code, "retryable": error.retryable, "detail": error.detail, **error.extra}
    return orjson.dumps({"error": members}).decode()
