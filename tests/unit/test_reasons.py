"""Each thing that can keep a job is told in a sentence with its next step, and short in `blocked_on`."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import RowMapping

from api.caches import Liveness
from api.reasons import Told, reasons
from api.views import seen
from ocrfleet.store.explain import Ahead, Backoff, Facts, Redrive
from ocrfleet.store.quotas import Blocked, Day

JOB, TENANT = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": JOB, "tenant_id": TENANT, "state": "running", "outcome": None, "task": "text", "priority": 0, "labels": {},
    "input": {}, "created_at": NOW - timedelta(hours=1), "started_at": NOW - timedelta(seconds=100),
    "finished_at": None, "listed_at": NOW, "expanded_at": NOW, "deadline": None, "generation": 1, "output": {},
    "webhook_ids": [], "errors": {}, "error": None, "items_total": 10, "items_pending": 0, "throughput": 1.0,
    "total": 100, "succeeded": 10, "dead": 0, "canceled": 0, "outstanding": 90,
}  # fmt: skip
READY: dict[str, Any] = {
    "name": "ocr-0", "state": "ready", "alive": True, "tasks": ["text"], "last_error": None
}  # fmt: skip
IDLE = Facts(NOW, [READY], None, Ahead(0, 0, 0, 0, 0), Backoff(0, 0.0, {}), [], None)
LIVE = Liveness(1, frozenset({"text"}))
NOBODY = Liveness(0, frozenset())


def worker(state: str, **members: object) -> dict[str, Any]:
    return READY | {"state": state} | members


def facts(**members: Any) -> Facts:
    values = {name: getattr(IDLE, name) for name in Facts.__slots__}
    return Facts(**values | members)


def told(row: dict[str, Any], live: Liveness, known: Facts) -> tuple[str | None, str | None, list[Told]]:
    job, standings = seen(cast("RowMapping", ROW | row), live, NOW)
    return job.blocked_on, job.eta_reason, list(reasons(job, standings, known))


STORE_DOWN = worker("tripped", last_error="storage_unavailable: no answer from http://minio:9000")
CRASHED = worker("tripped", name="ocr-1", last_error="engine_crashed: it ended with 139")
CASES: list[Any] = [
    # name, row, liveness, facts, blocked_on, eta_reason, first code, words of its sentence and next step
    ("no workers", {}, NOBODY, facts(workers=[]), "no_workers", "no live workers",
     "no_workers", "No worker is alive.", "ocrfleet workers start"),
    ("draining", {}, NOBODY, facts(workers=[worker("draining")]), "no_workers", "no live workers",
     "no_workers", "are draining", "ocrfleet workers start"),
    ("model loading", {}, NOBODY, facts(workers=[worker("starting")]), "no_workers", "no live workers",
     "model_loading", "Worker ocr-0 is loading the model.", "wait a few minutes"),
    ("store down", {}, NOBODY, facts(workers=[STORE_DOWN]), "no_workers", "no live workers",
     "store_down", "The object store is down: Worker ocr-0 found too many failures", "ocrfleet doctor"),
    ("engine down", {}, NOBODY, facts(workers=[CRASHED]), "no_workers", "no live workers",
     "breaker_open", "engine_crashed: it ended with 139", "try again by themselves"),
    ("one of two is sick", {}, LIVE, facts(workers=[READY, CRASHED]), None, None,
     "breaker_open", "Worker ocr-1 found too many failures", "try again by themselves"),
    ("other task", {"task": "spotting"}, LIVE, IDLE, "no_worker_for_task", "no live worker does this task",
     "no_worker_for_task", "No live worker does the task 'spotting'; they do text.", "OCRFLEET_ENGINE"),
    ("quota of a day", {}, Liveness(1, frozenset({"text"}), {}, {TENANT: Blocked(Day("pages_per_day", 1000, 1000, NOW), None, None)}), IDLE,
     "quota: pages_per_day 1000", "quota: pages_per_day 1000",
     "quota", "may use 1,000 pages a day", "midnight UTC"),
    ("quota of jobs", {"listed_at": None, "expanded_at": None, "state": "queued"},
     Liveness(1, frozenset({"text"}), {}, {TENANT: Blocked(None, 20, (NOW - timedelta(hours=2), UUID(int=0)))}), IDLE,
     "quota: jobs_open 20", "quota: jobs_open 20",
     "quota", "may have 20 unfinished jobs", "cancel one"),
    ("paused", {"state": "paused"}, LIVE, facts(paused={"actor": "12ab", "at": NOW}), "paused", "paused",
     "paused", "paused by key 12ab at 2026-11-20 12:00:00 UTC", f"ocrfleet jobs resume {JOB}"),
    ("canceling", {"state": "canceling"}, LIVE, IDLE, None, "canceling",
     "canceling", "90 pages have still to be let go", "wait"),
    ("expanding", {"expanded_at": None, "items_pending": 4}, LIVE, IDLE, None, "expanding",
     "expanding", "10 objects so far, 4 of them still to be opened", "wait"),
    ("no producer", {"expanded_at": None, "listed_at": None, "items_total": 0, "state": "queued", "total": 0,
                     "succeeded": 0, "outstanding": 0}, LIVE, IDLE, None, "expanding",
     "not_begun", "Nothing of the input has been read for 60 min", "python -m producer"),
    ("a rule's job", {"expanded_at": None}, LIVE, facts(open_until=NOW), None, "expanding",
     "open", "takes further objects of its rule until 2026-11-20 12:00:00 UTC", None),
    ("window full of others", {}, LIVE, facts(ahead=Ahead(2, 200_000, 1024, 1000, 0)), None, None,
     "window_full", "the workers hold 1,024 pages, 1,000 of them of other tenants. Beside it are 2 other tenants with"
     " 200,000 pages.", "take turns by their weights"),
    ("window full of mine", {}, LIVE, facts(ahead=Ahead(0, 0, 1024, 0, 500)), None, None,
     "window_full", "500 pages of your own jobs go first.", f"ocrfleet jobs update {JOB} --priority 9"),
    ("redrive", {}, LIVE, facts(redrives=[Redrive(7, 5.0, finished=True, waiting=90)]), None, None,
     "redrive", "Redrive 7 brings dead letters back at 5 pages a second; 90 pages wait", "--max-per-second"),
    ("backing off", {}, LIVE, facts(backoff=Backoff(90, 12.0, {"storage_unavailable": 90})), None, None,
     "backing_off", "90 pages wait to be tried again after storage_unavailable (90); the next in 12 s.", "ocrfleet doctor"),
    ("running", {}, Liveness(1, frozenset({"text"}), {JOB: (0, 90)}), IDLE, None, None,
     "running", "90 pages are being read at 1 pages a second.", None),
    ("deadline near", {"deadline": NOW + timedelta(seconds=10), "outstanding": 0, "total": 10}, NOBODY, IDLE, None,
     "no live workers", "no_workers", "draining", None),
    ("ended", {"state": "completed", "outcome": "succeeded", "finished_at": NOW}, LIVE, IDLE, None, "finished",
     "finished", "The job has ended: completed, succeeded.", f"ocrfleet results {JOB}"),
    ("failed", {"state": "failed", "finished_at": NOW, "error": {"code": "input_not_found", "detail": "There is no m.jsonl."}},
     LIVE, IDLE, None, "finished", "input_not_found", "failed, There is no m.jsonl.", "the object is gone"),
    ("past its deadline", {"state": "canceled", "finished_at": NOW, "error": {"code": "deadline_exceeded", "detail": "Too late."}},
     LIVE, IDLE, None, "finished", "deadline_exceeded", "canceled, Too late.", "later deadline"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "live", "known", "blocked", "eta", "code", "sentence", "next_step"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_keeps_a_job_is_told_first(
    row: dict[str, Any], live: Liveness, known: Facts, blocked: str | None, eta: str | None, code: str,
    sentence: str, next_step: str | None,
) -> None:  # fmt: skip
    blocked_on, eta_reason, all_told = told(row, live, known)
    assert (blocked_on, eta_reason) == (blocked, eta)
    assert all_told[0].code == code
    assert sentence in all_told[0].sentence
    assert (next_step or "") in (all_told[0].next_step or "")


def test_dead_letters_are_told_by_code_the_most_first_each_with_what_to_do() -> None:
    row = {"errors": {"corrupt_file": 2, "encrypted_pdf": 3}, "dead": 5, "outstanding": 85}
    letters = told(row, LIVE, IDLE)[2][-2:]
    assert [(one.code, one.sentence) for one in letters] == [
        ("encrypted_pdf", "3 pages failed with encrypted_pdf."),
        ("corrupt_file", "2 pages failed with corrupt_file."),
    ]
    assert letters[0].next_step
    assert "save the PDF without its password" in letters[0].next_step
    assert f"ocrfleet dlq ls --job {JOB} --code encrypted_pdf" in letters[0].next_step


def test_a_deadline_that_will_be_missed_is_told_and_one_that_will_not_is_not() -> None:
    soon, late = ({"deadline": NOW + timedelta(seconds=left)} for left in (10, 100_000))
    assert [one.code for one in told(soon, LIVE, IDLE)[2]][-1] == "deadline"
    assert "deadline" not in [one.code for one in told(late, LIVE, IDLE)[2]]


def test_a_worker_that_refused_is_told_beside_that_there_is_none() -> None:
    known = facts(workers=[worker("refused", alive=False, last_error="engine_unfit: torch 2.0")])
    codes = [(one.code, one.sentence) for one in told({}, NOBODY, known)[2]]
    assert codes[0][0] == "no_workers"
    assert codes[1] == ("worker_refused", "Worker ocr-0 is refused: engine_unfit: torch 2.0")
