"""A job's row as callers see it: counts, throughput, and when it will end or why nobody knows."""

from datetime import UTC, datetime

from sqlalchemy import RowMapping

from api.answers import Counts, Eta, ItemCounts, Job
from api.caches import Liveness
from ocrfleet.states import JOB_TERMINAL, JobState

_SPREAD = 0.1
"""An ETA is never closer than this share of itself."""


def job_view(row: RowMapping, live: Liveness, now: datetime | None = None) -> Job:
    """The answer to GET /v1/jobs/{id}."""
    now = now or datetime.now(UTC)
    rates = _rates(row, now)
    reason = _eta_reason(row, live, rates)
    counts = _counts(row, live)
    terminal = row["state"] in JOB_TERMINAL
    return Job(
        **{name: row[name] for name in _AS_STORED},
        counts=counts,
        items=ItemCounts(total=row["items_total"], pending=row["items_pending"]),
        throughput=_rounded(rates[-1] if terminal else rates[0]) if rates else None,
        eta=None if reason else _eta(row, rates),
        eta_reason=reason,
        blocked_on=None if terminal else _blocked_on(row, counts, live),
    )


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


def _eta_reason(row: RowMapping, live: Liveness, rates: tuple[float, ...]) -> str | None:
    reasons = (
        (row["state"] in JOB_TERMINAL, "finished"),
        (row["state"] in (JobState.PAUSED, JobState.CANCELING), row["state"]),
        (row["expanded_at"] is None, "expanding"),
        (live.workers == 0, "no live workers"),
        (row["task"] not in live.tasks, "no live worker does this task"),
        (not rates, "nothing settled yet"),
        (min(rates, default=0.0) <= 0.0, "nothing settled lately"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def _blocked_on(row: RowMapping, counts: Counts, live: Liveness) -> str | None:
    if row["state"] == JobState.PAUSED:
        return "paused"
    if counts.ready + counts.dispatched == 0:
        return None
    if live.workers == 0:
        return "no_workers"
    return None if row["task"] in live.tasks else "no_worker_for_task"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
