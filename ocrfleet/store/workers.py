"""Workers: who is alive, what it can do and what it holds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ocrfleet.states import WorkerState
from ocrfleet.store.notify import WORK, notify
from ocrfleet.tables import workers


@dataclass(frozen=True, slots=True)
class Registration:
    """One worker process; the incarnation is new with every start."""

    incarnation: UUID
    name: str
    host: str
    pid: int
    device: str
    engine: str
    model: str
    revision: str
    tasks: Sequence[str]
    slots: int
    in_flight_target: int
    state: WorkerState
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself every two seconds."""

    state: WorkerState
    batches: Sequence[int]
    """Batches it has received and not yet settled to the last page."""
    in_flight: int
    pages_per_second: float
    last_error: str | None


_LIVE = """state NOT IN ('stopped', 'refused', 'quarantined')
    AND heartbeat_at > now() - make_interval(secs => :timeout)"""
QUARANTINE_KEPT = 7 * 86400.0
"""Seconds for which the record remembers a quarantined device."""


def register(session: Session, worker: Registration) -> None:
    """Make the worker known, in the place of an earlier one of its name that did not work; repeating it is harmless."""
    session.execute(
        text("DELETE FROM workers WHERE name = :name AND state IN ('refused', 'quarantined')"),
        {"name": worker.name},
    )
    row = asdict(worker)
    session.execute(insert(workers).values(**row).on_conflict_do_nothing())
    notify(session, WORK)


def beat(session: Session, incarnation: UUID, heartbeat: Heartbeat) -> bool:
    """Renew every lease of the batches named; False if the worker is not registered (any more)."""
    query = """
        UPDATE workers SET previous_batches = batches, previous_heartbeat_at = heartbeat_at, heartbeat_at = now(),
            batches = :batches, state = :state, in_flight = :in_flight, pages_per_second = :pages_per_second,
            last_error = :last_error
        WHERE incarnation = :incarnation"""
    values = asdict(heartbeat) | {"batches": list(heartbeat.batches), "incarnation": incarnation}
    return session.connection().execute(text(query), values).rowcount == 1


def bury(session: Session, incarnation: UUID) -> None:
    """Record that this worker is dead, known for certain: its pages need not wait until its silence has told so."""
    query = "UPDATE workers SET state = 'stopped', last_error = 'killed' WHERE incarnation = :incarnation AND state <> 'stopped'"
    session.execute(text(query), {"incarnation": incarnation})


def to_abort(session: Session, incarnation: UUID) -> list[tuple[int, int]]:
    """Running pages of this worker, with their fences, whose jobs are being canceled."""
    query = """
        SELECT p.id, p.fence FROM jobs j JOIN pages p ON p.job_id = j.id AND p.state IN ('dispatched', 'running')
        WHERE j.state IN ('canceling', 'failed') AND p.incarnation = :incarnation"""
    return [(row.id, row.fence) for row in session.execute(text(query), {"incarnation": incarnation})]


def fleet(session: Session, heartbeat_timeout: float) -> Sequence[RowMapping]:
    """Every worker known, live ones first; `alive` and `heartbeat_age` (seconds) by the database's clock."""
    query = f"""
        SELECT *, extract(epoch FROM now() - heartbeat_at) AS heartbeat_age, {_LIVE} AS alive
        FROM workers ORDER BY alive DESC, name, started_at"""
    return session.execute(text(query), {"timeout": heartbeat_timeout}).mappings().all()


def tasks(session: Session, heartbeat_timeout: float) -> set[str]:
    """Tasks that a live engine can do."""
    query = f"SELECT DISTINCT unnest(tasks) FROM workers WHERE {_LIVE}"
    return set(session.execute(text(query), {"timeout": heartbeat_timeout}).scalars())


def last_error(session: Session, name: str) -> str | None:
    """What the latest worker of this name said last."""
    query = "SELECT last_error FROM workers WHERE name = :name ORDER BY heartbeat_at DESC LIMIT 1"
    return session.execute(text(query), {"name": name}).scalar()


def forget(session: Session, older_than: float) -> None:
    """Delete workers that have been silent for `older_than` seconds and hold nothing; the quarantined after days."""
    query = """
        DELETE FROM workers w
        WHERE heartbeat_at < now() - make_interval(secs => CASE state WHEN 'quarantined' THEN :kept ELSE :age END)
        AND NOT EXISTS (
            SELECT 1 FROM pages p WHERE p.state IN ('dispatched', 'running') AND p.incarnation = w.incarnation
        )"""
    session.execute(text(query), {"age": older_than, "kept": QUARANTINE_KEPT})
