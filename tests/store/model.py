"""What the record must be after any steps: a model of jobs, pages and workers, and how the two are compared."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from acts import expire, resume, take_away
from builders import Batch, Record, settlement
from hypothesis.stateful import RuleBasedStateMachine, invariant

from ocrfleet.store.pages import ClaimedPage

TERMINAL = ("succeeded", "dead", "canceled")


@dataclass
class Job:
    paused: bool = False
    canceled: bool = False
    late: bool = False
    """Past its deadline, which nobody has looked at yet."""
    priority: int = 0

    @property
    def is_claimed(self) -> bool:
        return not (self.paused or self.canceled or self.late)


@dataclass
class Page:
    job: UUID
    state: str = "ready"
    fence: int = 0
    losses: int = 0
    failures: int = 0
    batch: int | None = None
    worker: UUID | None = None
    since: int = 0
    proofs: set[UUID] = field(default_factory=set)

    def return_to(self, state: str) -> None:
        """It is leased and dispatched no more."""
        self.state, self.batch, self.worker = state, None, None


GONE = Page(UUID(int=0), "gone", -1)
"""A page of a job that was deleted."""


@dataclass
class Worker:
    silent: bool = False
    batches: list[int] = field(default_factory=list)
    previous: list[int] = field(default_factory=list)
    beat: int = 0
    previous_beat: int | None = None

    def holds(self, page: Page) -> bool:
        named = page.batch in self.batches or page.batch in self.previous
        return not self.silent and (named or self.previous_beat is None or self.previous_beat <= page.since)


class Model(RuleBasedStateMachine):
    """No rule yet: they are those of the classes built upon it."""

    record: Record

    def __init__(self) -> None:
        super().__init__()
        self.record.clear()
        self.tick = 0
        self.pages: dict[int, Page] = {}
        self.jobs: dict[UUID, Job] = {}
        self.workers: dict[UUID, Worker] = {}
        self.messages: list[Batch] = []
        self.claims: list[ClaimedPage] = []
        self.deleted = 0
        self.ended: dict[int, Any] = {}
        self.fences: dict[int, int] = {}

    def page(self, id_: int) -> Page:
        return self.pages.get(id_, GONE)

    def in_state(self, *states: str) -> list[Page]:
        return [page for page in self.pages.values() if page.state in states]

    def unfinished(self) -> list[UUID]:
        """In the order in which they came, as `jobs` is: their ids are different each time."""
        found = {page.job for page in self.pages.values() if page.state not in TERMINAL}
        return [job for job in self.jobs if job in found]

    # What is always so

    @invariant()
    def the_pages_are_those_of_the_model(self) -> None:
        rows = self.record.run("""
            SELECT p.* FROM pages p JOIN jobs j ON j.id = p.job_id WHERE j.purged_at IS NULL ORDER BY p.id""")
        assert {row.id for row in rows} == self.pages.keys()
        for row in rows:
            page = self.pages[row.id]
            expected = (page.state, page.fence, page.losses, page.failures, page.batch, page.worker)
            assert expected == (
                row.state, row.fence, row.losses, row.failures, row.batch_id, row.incarnation,
            )  # fmt: skip
            assert row.fence >= self.fences.get(row.id, 0)
            self.fences[row.id] = row.fence
            if row.state in TERMINAL:
                assert self.ended.setdefault(row.id, row) == row

    @invariant()
    def the_jobs_are_those_of_the_model(self) -> None:
        rows = {row.id: row for row in self.record.run("SELECT * FROM jobs WHERE purged_at IS NULL")}
        assert rows.keys() == self.jobs.keys()
        under_way = self.unfinished()
        for id_, job in self.jobs.items():
            if id_ not in under_way:
                expected = {"canceled" if job.canceled else "completed"}
            elif job.canceled:
                expected = {"canceling"}
            else:
                expected = {"paused"} if job.paused else {"queued", "running"}
            assert rows[id_].state in expected
            assert rows[id_].priority == job.priority

    @invariant()
    def counters_and_outcomes_are_those_of_a_recount(self) -> None:
        """This also holds each outcome to the fence of its page, and jobs to end with their last page."""
        self.record.recount()

    def teardown(self) -> None:
        """Live workers, a working broker, patient people and time bring every job to its end."""
        worker = self.record.worker()
        self.record.run("UPDATE workers SET state = 'stopped' WHERE incarnation <> :id", id=worker)
        self.record.sweep()
        self.record.run("UPDATE pages SET since = now() - interval '1 hour' WHERE state = 'dispatched'")
        self.record.sweep_messages()
        expire(self.record)
        for row in self.record.run("SELECT id FROM jobs WHERE state = 'paused'"):
            resume(self.record, row.id)
        if self.jobs:
            claimed = self.record.claim(worker, self.record.dispatch(*self.jobs))
            self.record.settle(*(settlement(page) for page in claimed))
        assert self.record.run("SELECT id FROM jobs WHERE finished_at IS NULL") == []
        while take_away(self.record):
            pass
        assert {row.id for row in self.record.run("SELECT id FROM jobs")} == self.jobs.keys()
        self.record.recount()
