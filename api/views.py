"""A job's row as callers see it: counts, throughput, and when it will end or why nobody knows."""

from datetime import UTC, datetime

from sqlalchemy import RowMapping

from api.answers import Counts, Eta, ItemCounts, Job
from api.caches import Liveness
from api.standing import Standing, standings
from ocrfleet.states import JOB_TERMINAL

_SPREAD = 0.1
"""An ETA is never closer than this share of itself."""


def job_view(row: RowMapping, live: Liveness, now: datetime | None = None) -> Job:
    """The answer to GET /v1/jobs/{id}."""
    return seen(row, live, now)[0]


def seen(row: RowMapping, live: Liveness, now: datetime | None = None) -> tuple[Job, list[Standing]]:
    """The answer, and how the job stands, of which `blocked_on` and `eta_reason` are the short form."""
    rates = _rates(row, now or datetime.now(UTC))
    counts = _counts(row, live)
    found = list(standings(row, counts, live, rates))
    reason = next((standing.eta for standing in found if standing.eta), None)
    terminal = row["state"] in JOB_TERMINAL
    job = Job(
        **{name: row[name] for name in _AS_STORED},
        counts=counts,
        items=ItemCounts(total=row["items_total"], pending=row["items_pending"]),
        throughput=_rounded(rates[-1] if terminal else rates[0]) if rates else None,
        eta=None if reason else _eta(row, rates),
        eta_reason=reason,
        blocked_on=next((standing.blocks for standing in found if standing.blocks), None),
    )
    return job, found


_AS_STORED = (
    "id", "state", "outcome", "task", "priority", "labels", "input", "created_at", "started_at", "finished_at",
    "expanded_at", "deadline", "generation", "errors", "error", "output", "webhook_ids",
)  # fmt: skip


def _counts(row: RowMapping, live: Liveness) -> Counts:
    """They sum to the total at every moment: what is in flight was counted a moment ago, the rest is this row's."""
    dispatched, running = live.in_flight.get(row["id"], (0, 0))
    running = min(running, row["outstanding"])
    dispatched = min(dispatched, row["outstanding"] - running)
    ended = {name: row[name] for name in ("total", "succeeded", "dead", "canceled")}
    return Counts(
        ready=row["outstanding"] - dispatched - running, dispatched=dispatched, running=running, **ended
    )


def _rates(row: RowMapping, now: datetime) -> tuple[float, ...]:
    """Pages a second: the latest sample, if there is one, then the mean since the start."""
    done = row["succeeded"] + row["dead"]
    if row["started_at"] is None or done == 0:
        return ()
    seconds = ((row["finished_at"] or now) - row["started_at"]).total_seconds()
    mean = done / max(seconds, 0.001)
    return (mean,) if row["throughput"] is None else (row["throughput"], mean)


def _eta(row: RowMapping, rates: tuple[float, ...]) -> Eta:
    outstanding = row["outstanding"]
    return Eta(
        low_seconds=_rounded(outstanding / max(rates) * (1 - _SPREAD)),
        high_seconds=_rounded(outstanding / min(rates) * (1 + _SPREAD)),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
