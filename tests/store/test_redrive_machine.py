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

from ocrfleet.states import PageState

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

    @precondition(lambda self: self.in_state("ready") and self.workers)
    @rule(limit=st.integers(1, 4), who=ANY, before=st.sampled_from([PageState.READY, PageState.DEAD]))
    def die(self, limit: int, who: int, before: PageState) -> None:
        """The way to a dead letter, at once or after another try."""
        for state in (before, PageState.DEAD):
            if self.in_state("ready"):
                self.work(limit, who)
            if self.claims:
                self.settle([(n, state) for n in range(limit)])

    @precondition(lambda self: self.letters())
    @rule(chunk=CHUNKS)
    def redrive(self, chunk: int) -> None:
        """Every letter is meant; the first chunk comes back at once."""
        dead = self._oldest_first()
        self.open.append(Open({id_: self.page(id_).fence for id_ in dead}))
        redrive(self.record, chunk=chunk)
        self._bring_back(self.open[-1], dead, chunk)

    @precondition(lambda self: self.open)
    @rule(chunk=CHUNKS)
    def step(self, chunk: int) -> None:
        dead = self._oldest_first()
        assert step(self.record, chunk) == self._bring_back(self.open[0], dead, chunk)

    @precondition(lambda self: len(self.letters()) > 1)
    @rule(which=ANY)
    def discard(self, which: int) -> None:
        letters = sorted(self.letters())
        id_ = letters[which % len(letters)]
        discard(self.record, 1, page_ids=[id_])
        self.discarded.add(id_)

    def letters(self) -> set[int]:
        return {id_ for id_, page in self.pages.items() if page.state == "dead"} - self.discarded

    def _oldest_first(self) -> list[int]:
        """When each died the record knows; which they are is the model's to say."""
        rows = self.record.run("SELECT page_id FROM outcomes ORDER BY created_at, page_id")
        letters = self.letters()
        return [row.page_id for row in rows if row.page_id in letters]

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
            page.proofs.clear()
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
        type("Redriven", (Redriven,), members), settings=settings(PROFILE, max_examples=30)
    )
