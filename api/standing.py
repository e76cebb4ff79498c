"""How a job stands, as codes: the one source of `blocked_on`, of `eta_reason` and of GET /v1/jobs/{id}/explain."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping

from api.answers import Counts
from api.caches import Liveness
from ocrfleet.states import JOB_TERMINAL, JobState


class Standing(NamedTuple):
    """One thing that keeps a job, or that it does; `code` is for programs."""

    code: str
    eta: str | None = None
    """Why nobody knows when the job ends; None: it does not hide the end."""
    blocks: str | None = None
    """What `blocked_on` says; None: nothing is blocked by it."""


def standings(row: RowMapping, counts: Counts, live: Liveness, rates: Sequence[float]) -> Iterator[Standing]:
    """What holds of the job, what weighs most first."""
    if row["state"] in JOB_TERMINAL:
        yield Standing("finished", "finished")
        return
    if row["state"] == JobState.CANCELING:
        yield Standing("canceling", "canceling")
        return
    if row["state"] == JobState.PAUSED:
        yield Standing("paused", "paused", "paused")
    elif quota := _over_quota(row, counts, live):
        yield Standing("quota", quota, quota)
    if row["expanded_at"] is None:
        yield Standing("expanding", "expanding")
    yield from _workers(row, counts, live)
    if not rates:
        yield Standing("nothing_settled", "nothing settled yet")
    elif min(rates) <= 0:
        yield Standing("nothing_settled", "nothing settled lately")


def _workers(row: RowMapping, counts: Counts, live: Liveness) -> Iterator[Standing]:
    """Whether somebody could do the pages; what has none yet is not blocked by it."""
    waits = counts.ready + counts.dispatched > 0
    if live.workers == 0:
        yield Standing("no_workers", "no live workers", "no_workers" if waits else None)
    elif row["task"] not in live.tasks:
        yield Standing(
            "no_worker_for_task", "no live worker does this task", "no_worker_for_task" if waits else None
        )


def _over_quota(row: RowMapping, counts: Counts, live: Liveness) -> str | None:
    blocked = live.blocked.get(row["tenant_id"])
    if blocked is None:
        return None
    return blocked.reason(
        row["created_at"], row["id"], listed=row["listed_at"] is not None, ready=counts.ready
    )
