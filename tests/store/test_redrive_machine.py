"""Redrives in the model: between any other steps, chunk by chunk, dead pages come back, and just those."""

from dataclasses import dataclass
from typing import Any

from builders import Record
from control_rules import ANY
from dead import discard, redrive, step
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_machine import PROFILE, Machine

CHUNKS = st.integers(1, 3)


@dataclass
class Open:
    """A redrive that is not finished: the pages that were dead when it was made, each with its fence."""

    meant: dict[int, int]


class Redriven(Machine):
    """What is done with dead letters, beside all that the model knows."""

    def __init__(self) -> None:
        super().__init__()
        self.record.run("DELETE FROM redrives")
        self.open: list[Open] = []
        self.discarded: set[int] = set()

    @precondition(lambda self: self.in_state("dead"))
    @rule(chunk=CHUNKS)
    def redrive(self, chunk: int) -> None:
        """Every letter is meant; the first chunk comes back at once."""
        dead = self._letters()
        self.open.append(Open({id_: self.page(id_).fence for id_ in dead}))
        redrive(self.record, chunk=chunk)
        self._bring_back(self.open[-1], dead, chunk)

    @precondition(lambda self: self.open)
    @rule(chunk=CHUNKS)
    def step(self, chunk: int) -> None:
        dead = self._letters()
        assert step(self.record, chunk) == self._bring_back(self.open[0], dead, chunk)

    @precondition(lambda self: self.in_state("dead"))
    @rule(which=ANY)
    def discard(self, which: int) -> None:
        """All letters of one job."""
        dead = self._letters()
        if dead:
            job = self.page(dead[which % len(dead)]).job
            of_job = [id_ for id_ in dead if self.page(id_).job == job]
            discard(self.record, len(of_job), job_id=job)
            self.discarded.update(of_job)

    def _letters(self) -> list[int]:
        """In the order in which they died; which they are is the model's to say."""
        rows = self.record.run("SELECT page_id FROM outcomes ORDER BY created_at, page_id")
        return [
            row.page_id
            for row in rows
            if self.page(row.page_id).state == "dead" and row.page_id not in self.discarded
        ]

    def _bring_back(self, redrive: Open, dead: list[int], chunk: int) -> int:
        """Those that have not died since, of jobs that nobody gave up; the redrive is over when there are no more."""
        left = [id_ for id_ in dead if redrive.meant.get(id_) == self.page(id_).fence and self._may_run(id_)]
        under_way = self.unfinished()
        for id_ in left[:chunk]:
            page = self.page(id_)
            if page.job not in under_way:
                self.jobs[page.job].paused = self.jobs[page.job].late = False
            page.return_to("ready")
            page.failures = 0
            del self.ended[id_]
        if len(left) < chunk:
            self.open.remove(redrive)
        return len(left[:chunk])

    def _may_run(self, id_: int) -> bool:
        job = self.page(id_).job
        return not self.jobs[job].canceled and not (self.jobs[job].late and job in self.unfinished())


def test_redriven_pages_behave_as_their_model(record: Record) -> None:
    members: dict[str, Any] = {"record": record}
    run_state_machine_as_test(
        type("Redriven", (Redriven,), members), settings=settings(PROFILE, max_examples=40)
    )
