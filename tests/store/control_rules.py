"""Rules of the model: what callers do to jobs, and what their deadlines do."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from acts import change, delete, expire, pause, recall, resume, take_away
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model import Model, Page

from ocrfleet.errors import JobStateConflict

ANY = st.integers(0, 10**6)
"""Chooses one of a list that is not known when the example is made."""


class ControlRules(Model):
    """Cancel, pause, resume, change, expire, delete."""

    @precondition(lambda self: self.in_state("dispatched", "running"))
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        job = self._pick(which)
        self.record.cancel(job)
        self._canceled(job)

    def _canceled(self, job: UUID) -> None:
        self.jobs[job].canceled = True
        for page in self._of(job, "ready", "dispatched"):
            page.return_to("canceled")

    @precondition(lambda self: self._active())
    @rule(which=ANY)
    def pause(self, which: int) -> None:
        """Also one that is paused already."""
        job = self._pick(which, active=True)
        if not self.jobs[job].paused:
            self._recalled(job)
        pause(self.record, job)
        self.jobs[job].paused = True

    @precondition(lambda self: self._active())
    @rule(which=ANY)
    def resume(self, which: int) -> None:
        """Also one that is not paused."""
        job = self._pick(which, active=True)
        if self.jobs[job].paused:
            self._recalled(job)
        resume(self.record, job)
        self.jobs[job].paused = False

    @precondition(lambda self: any(self.jobs[page.job].paused for page in self.in_state("dispatched")))
    @rule()
    def recall(self) -> None:
        """The sweep that finds what a dispatcher has sent in spite of a pause."""
        paused = [id_ for id_, job in self.jobs.items() if job.paused and not job.canceled]
        assert recall(self.record) == sum(self._recalled(job) for job in paused)

    def _recalled(self, job: UUID) -> int:
        pages = self._of(job, "dispatched")
        for page in pages:
            page.return_to("ready")
        return len(pages)

    @precondition(lambda self: self._active())
    @rule(which=ANY, priority=st.integers(0, 9), late=st.booleans())
    def change(self, which: int, priority: int, late: bool) -> None:
        """The deadline comes, or is taken away before anybody has looked."""
        job = self._pick(which, active=True)
        self.jobs[job].late, self.jobs[job].priority = late, priority
        deadline = datetime.now(UTC) - timedelta(seconds=1) if late else None
        change(self.record, job, deadline=deadline, priority=priority, labels={"late": str(late)})

    @precondition(lambda self: any(self.jobs[job].late for job in self._active()))
    @rule()
    def expire(self) -> None:
        late = [job for job in self._active() if self.jobs[job].late]
        assert expire(self.record) == len(late)
        for job in late:
            self._canceled(job)

    @precondition(lambda self: len(self.jobs) > len(self.unfinished()))
    @rule(which=ANY)
    def delete(self, which: int) -> None:
        """Of what has ended nobody sees anything from now on; what has not is refused."""
        unfinished = self.unfinished()
        for job in unfinished:
            with pytest.raises(JobStateConflict):
                delete(self.record, job)
        ended = [job for job in self.jobs if job not in unfinished]
        job = ended[which % len(ended)]
        delete(self.record, job)
        del self.jobs[job]
        self.pages = {id_: page for id_, page in self.pages.items() if page.job != job}
        self.deleted += 1

    @precondition(lambda self: self.deleted)
    @rule(limit=st.integers(1, 3))
    def take_away(self, limit: int) -> None:
        """Messages, claims and results of these pages may still come."""
        if take_away(self.record, limit) is None:
            self.deleted = 0

    def _of(self, job: UUID, *states: str) -> list[Page]:
        return [page for page in self.in_state(*states) if page.job == job]

    def _active(self) -> list[UUID]:
        return [job for job in self.unfinished() if not self.jobs[job].canceled]

    def _pick(self, which: int, *, active: bool = False) -> UUID:
        jobs = self._active() if active else self.unfinished()
        return jobs[which % len(jobs)]
