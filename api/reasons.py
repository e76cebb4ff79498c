"""Why a job waits or what it does, in sentences with the next step, from its row, the fleet and the record's facts."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from api.answers import Job
from api.standing import Standing
from ocrfleet.advice import advice
from ocrfleet.errors import Canceled, StorageUnavailable
from ocrfleet.states import JOB_TERMINAL, WorkerState
from ocrfleet.store.explain import LOOKED_AT, Facts, Redrive

UNREAD_AFTER = 10.0
"""Seconds after which an input that nobody has begun to read is worth a word."""
_TAKES = (WorkerState.READY, WorkerState.DRAINING)


class Told(NamedTuple):
    """A reason as the caller sees it."""

    code: str
    sentence: str
    next_step: str | None = None


def reasons(job: Job, standings: list[Standing], facts: Facts) -> Iterator[Told]:
    """What keeps the job first, then what it does, then what it has lost."""
    for standing in standings:
        if tell := _TELL.get(standing.code):
            yield from tell(job, standing, facts)
    if job.state not in JOB_TERMINAL:
        yield from _held_back(job, facts)
        yield from _under_way(job, facts, blocked=any(standing.blocks for standing in standings))
        yield from _deadline(job, facts)
    yield from _dead_letters(job)


def _finished(job: Job, _standing: Standing, _facts: Facts) -> Iterator[Told]:
    outcome = f", {job.outcome}" if job.outcome else ""
    if job.error:
        mistake = job.error.code == Canceled.code
        again = "submit it again if it was a mistake" if mistake else advice(job.error.code)
        yield Told(job.error.code, f"The job has ended: {job.state}, {job.error.detail}", again)
        return
    yield Told("finished", f"The job has ended: {job.state}{outcome}.", f"ocrfleet results {job.id}")


def _canceling(job: Job, _standing: Standing, _facts: Facts) -> Iterator[Told]:
    left = job.counts.total - job.counts.succeeded - job.counts.dead - job.counts.canceled
    yield Told(
        "canceling",
        f"The job is being canceled: {_pages(left)} have still to be let go, {job.counts.running:,} of them by workers.",
        "wait; it takes seconds, of a job with millions of pages minutes",
    )


def _paused(job: Job, _standing: Standing, facts: Facts) -> Iterator[Told]:
    by = f" by key {facts.paused['actor']} at {_time(facts.paused['at'])}" if facts.paused else ""
    yield Told("paused", f"The job was paused{by}.", f"ocrfleet jobs resume {job.id}")


def _quota(_job: Job, standing: Standing, _facts: Facts) -> Iterator[Told]:
    limit, _, value = (standing.blocks or "").removeprefix("quota: ").partition(" ")
    number = f"{int(value):,}" if value.isdecimal() else value
    if limit == "jobs_open":
        sentence = f"Your tenant may have {number} unfinished jobs, and as many older ones are unfinished."
        yield Told("quota", sentence, "wait until one of them ends, or cancel one: ocrfleet jobs ls")
        return
    what = limit.removesuffix("_per_day")
    yield Told(
        "quota",
        f"Your tenant may use {number} {what} a day, and has used them; what is over waits.",
        "wait until midnight UTC, or ask whoever runs the fleet for more; GET /v1/quota shows what is left",
    )


def _expanding(job: Job, _standing: Standing, facts: Facts) -> Iterator[Told]:
    found, pending = job.items.total, job.items.pending
    if facts.open_until:
        yield Told("open", f"The job takes further objects of its rule until {_time(facts.open_until)}.")
        return
    if not found and (facts.now - job.created_at).total_seconds() > UNREAD_AFTER:
        waited = _seconds((facts.now - job.created_at).total_seconds())
        sentence = f"Nothing of the input has been read for {waited}: no producer runs, or all are busy with other inputs."
        yield Told("not_begun", sentence, "look whether a producer runs, and at its log: python -m producer")
        return
    counted = f", {pending:,} of them still to be opened to count their pages" if pending else ""
    yield Told(
        "expanding",
        f"The input is still being read: {found:,} objects so far{counted}.",
        "wait; pages run meanwhile",
    )


def _no_workers(_job: Job, _standing: Standing, facts: Facts) -> Iterator[Told]:
    alive = [worker for worker in facts.workers if worker["alive"]]
    told = [
        *_of(alive, WorkerState.STARTING, _loading),
        *_of(alive, WorkerState.TRIPPED, _tripped),
        *_of(facts.workers, WorkerState.REFUSED, _refused),
        *_of(facts.workers, WorkerState.QUARANTINED, _refused),
    ]
    if not any(one.code in ("model_loading", "breaker_open", "store_down") for one in told):
        sentence = "No worker is alive." if not alive else "No worker takes pages: those alive are draining."
        yield Told("no_workers", sentence, "start one on a machine with a GPU: ocrfleet workers start")
    yield from told


def _of(workers: Any, state: WorkerState, tell: Callable[[list[Mapping[str, Any]]], Told]) -> list[Told]:  # noqa: ANN401 (rows)
    found = [worker for worker in workers if worker["state"] == state]
    return [tell(found)] if found else []


def _loading(workers: list[Mapping[str, Any]]) -> Told:
    return Told(
        "model_loading",
        f"{_names(workers)} {_is(workers)} loading the model.",
        "wait a few minutes; if it stays so, see the worker's log",
    )


def _tripped(workers: list[Mapping[str, Any]]) -> Told:
    said = next((worker["last_error"] for worker in workers if worker["last_error"]), "no reason given")
    code = said.partition(":")[0]
    what = (
        "The object store is down" if code == StorageUnavailable.code else "Workers have stopped taking pages"
    )
    return Told(
        "store_down" if code == StorageUnavailable.code else "breaker_open",
        f"{what}: {_names(workers)} found too many failures in a row, the last: {said}",
        f"{advice(code)}; the workers try again by themselves, and no page has been charged for it",
    )


def _refused(workers: list[Mapping[str, Any]]) -> Told:
    said = workers[0]["last_error"] or "no reason given"
    return Told(
        f"worker_{workers[0]['state']}",
        f"{_names(workers)} {_is(workers)} {workers[0]['state']}: {said}",
        "repair it on that machine (ocrfleet doctor), then start the worker again",
    )


def _no_worker_for_task(job: Job, _standing: Standing, facts: Facts) -> Iterator[Told]:
    can = sorted({task for worker in facts.workers if worker["alive"] for task in worker["tasks"]})
    yield Told(
        "no_worker_for_task",
        f"No live worker does the task {job.task!r}; they do {', '.join(can) or 'none'}.",
        "start a worker whose engine does it (OCRFLEET_ENGINE), or submit the job with another task",
    )


_TELL: Mapping[str, Callable[[Job, Standing, Facts], Iterator[Told]]] = {
    "finished": _finished,
    "canceling": _canceling,
    "paused": _paused,
    "quota": _quota,
    "expanding": _expanding,
    "no_workers": _no_workers,
    "no_worker_for_task": _no_worker_for_task,
}


def _held_back(job: Job, facts: Facts) -> Iterator[Told]:
    """Pages that wait for a time, and workers that are sick beside others that are well."""
    for redrive in facts.redrives:
        yield _redriven(redrive)
    if facts.backoff.pages:
        codes = ", ".join(f"{code} ({count:,})" for code, count in facts.backoff.by_code.items())
        cause = f" after {codes}" if codes else ""
        worst = next(iter(facts.backoff.by_code), "")
        yield Told(
            "backing_off",
            f"{_some(facts.backoff.pages)} {_wait(facts.backoff.pages)} to be tried again{cause}; the next in"
            f" {_seconds(facts.backoff.next_in)}.",
            advice(worst) if worst in ("storage_unavailable", "engine_oom") else "wait; nothing is lost",
        )
    alive = [worker for worker in facts.workers if worker["alive"]]
    if any(worker["state"] == WorkerState.READY for worker in alive) and job.counts.ready:
        yield from _of(alive, WorkerState.TRIPPED, _tripped)


def _redriven(redrive: Redrive) -> Told:
    rate = f" at {redrive.max_per_second:g} pages a second" if redrive.max_per_second else ""
    held = f"; {_some(redrive.waiting)} {_wait(redrive.waiting)} for their turn" if redrive.waiting else ""
    return Told(
        "redrive",
        f"Redrive {redrive.id} brings dead letters back{rate}{held}.",
        "wait; a redrive without --max-per-second brings them back at once"
        if redrive.max_per_second
        else None,
    )


def _under_way(job: Job, facts: Facts, *, blocked: bool) -> Iterator[Told]:
    counts = job.counts
    if counts.running:
        speed = f" at {job.throughput:g} pages a second" if job.throughput else ""
        yield Told("running", f"{_pages(counts.running)} {_are(counts.running)} being read{speed}.")
    if blocked or counts.ready - facts.backoff.pages - sum(one.waiting for one in facts.redrives) <= 0:
        return
    ahead = facts.ahead
    others = f", {ahead.held_by_others:,} of them of other tenants" if ahead.held_by_others else ""
    queue = f" Beside it {_tenants(ahead.tenants)} with {_pages(ahead.theirs)}." if ahead.tenants else ""
    own = f" {_pages(ahead.own)} of your own jobs go first." if ahead.own else ""
    mine = f"put it first among your jobs: ocrfleet jobs update {job.id} --priority 9" if ahead.own else None
    turns = "wait: tenants take turns by their weights; more workers empty the window faster"
    yield Told(
        "window_full" if ahead.held else "dispatching",
        f"{_pages(counts.ready)} {_wait(counts.ready)} for room: the workers hold {_pages(ahead.held)}{others}.{queue}{own}",
        mine or (turns if ahead.tenants else None),
    )


def _deadline(job: Job, facts: Facts) -> Iterator[Told]:
    if job.deadline is None:
        return
    left = (job.deadline - facts.now).total_seconds()
    late = job.eta is not None and job.eta.high_seconds > left
    if left <= 0 or late or job.blocked_on:
        yield Told(
            "deadline",
            f"The deadline is {_time(job.deadline)}, in {_seconds(max(left, 0))}: pages that are not done by then are canceled.",
            f"ocrfleet jobs update {job.id} --deadline … or --no-deadline",
        )


def _dead_letters(job: Job) -> Iterator[Told]:
    for code, count in sorted(job.errors.items(), key=lambda one: -one[1]):
        yield Told(
            code,
            f"{_pages(count)} failed with {code}.",
            f"{advice(code)}; see them: ocrfleet dlq ls --job {job.id} --code {code}",
        )


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _pages(count: int) -> str:
    return f"{count:,} page{'' if count == 1 else 's'}"


def _some(count: int) -> str:
    return f"at least {_pages(count)}" if count == LOOKED_AT else _pages(count)


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _tenants(count: int) -> str:
    return f"{_are(count)} {count:,} other tenant{'' if count == 1 else 's'}"


def _names(workers: list[Mapping[str, Any]]) -> str:
    names = [worker["name"] for worker in workers]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Worker{'' if len(names) == 1 else 's'} {', '.join(names[:3])}{more}"


def _is(workers: list[Mapping[str, Any]]) -> str:
    return "is" if len(workers) == 1 else "are"
