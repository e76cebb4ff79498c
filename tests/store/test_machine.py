"""Pages against a model: whatever is delivered twice, late or never, whoever dies, the record stays what it must be."""

from uuid import UUID

from builders import Record, settlement
from control_rules import ANY, ControlRules
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from model import Job, Page, Worker

from ocrfleet.states import PageState

PROFILE = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
RESULTS = [PageState.READY, PageState.READY, PageState.SUCCEEDED, PageState.DEAD]


class Machine(ControlRules):
    """Messages, leases and settlements; what callers do comes from the base."""

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.submit(count)
        self.start_worker()
        self.start_worker()

    @precondition(lambda self: not self.unfinished())
    @rule(count=st.integers(1, 4))
    def submit(self, count: int) -> None:
        job = self.record.ready(count)
        self.jobs[job] = Job()
        self.pages |= {row.id: Page(job) for row in self.record.pages(job)}

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def start_worker(self) -> None:
        self.tick += 1
        self.workers[self.record.worker()] = Worker(beat=self.tick)

    @precondition(lambda self: self.in_state("ready"))
    @rule(limit=st.integers(1, 6))
    def dispatch(self, limit: int) -> None:
        batch = self.record.dispatch(*self.jobs, limit=limit)
        ready = {id_ for id_, page in self.pages.items() if page.state == "ready"}
        assert {id_ for id_, _ in batch.pages} <= ready
        assert len(batch.pages) == min(limit, len(ready))
        for id_, fence in batch.pages:
            page = self.pages[id_]
            page.state, page.fence, page.batch = "dispatched", page.fence + 1, batch.id
            assert fence == page.fence
        self.messages.append(batch)

    @precondition(lambda self: self.messages and self.workers)
    @rule(which=ANY, who=ANY, again=st.booleans())
    def deliver(self, which: int, who: int, again: bool) -> None:
        """In any order, to any worker, even to one that will not beat again; `again`: it will come once more."""
        batch = self.messages[which % len(self.messages)]
        if not again:
            self.messages.remove(batch)
        worker = list(self.workers)[who % len(self.workers)]
        claimed = self.record.claim(worker, batch)
        self.tick += 1
        expected = [
            (id_, fence)
            for id_, fence in batch.pages
            if self.page(id_).state == "dispatched"
            and self.page(id_).fence == fence
            and self.jobs[self.page(id_).job].is_claimed
        ]
        assert sorted((page.id, page.fence) for page in claimed) == expected
        for page in claimed:
            model = self.pages[page.id]
            model.state, model.worker, model.since = "running", worker, self.tick
        self.claims += claimed

    @precondition(lambda self: self.in_state("ready") and self.workers)
    @rule(limit=st.integers(1, 6), who=ANY)
    def work(self, limit: int, who: int) -> None:
        """The usual way: what is dispatched arrives."""
        self.dispatch(limit)
        self.deliver(len(self.messages) - 1, who, again=False)

    @precondition(lambda self: self.in_state("ready") and not self.in_state("running"))
    @rule(who=st.lists(ANY, min_size=1, max_size=4))
    def crash(self, who: list[int]) -> None:
        """Workers take a page each, one after another, and no more is heard of them."""
        for one in who:
            if self.in_state("ready"):
                self.work(1, one)
                self.fall_silent(one)
                self.sweep()

    @precondition(lambda self: self.messages)
    @rule(which=ANY)
    def drop(self, which: int) -> None:
        self.messages.pop(which % len(self.messages))

    @precondition(lambda self: self.claims)
    @rule(
        chosen=st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(RESULTS)),
            min_size=1,
            max_size=4,
            unique_by=lambda pair: pair[0],
        )
    )
    def settle(self, chosen: list[tuple[int, PageState]]) -> None:
        """Of the pages ever claimed, some in one flush: in time, late, again, or one page under two fences."""
        flush = {}
        # Those that run come first, then the latest.
        claims = sorted(self.claims, key=lambda page: (self.page(page.id).state != "running", -page.fence))
        for which, state in chosen:
            page = claims[which % len(claims)]
            flush[page.id, page.fence] = settlement(page, state, failed=state == PageState.READY)
        expected = {
            id_ for id_, fence in flush if self.page(id_).state == "running" and self.page(id_).fence == fence
        }
        assert self.record.settle(*flush.values()) == expected
        for (id_, fence), settled in flush.items():
            page = self.page(id_)
            if id_ in expected and page.fence == fence:
                page.failures += settled.failed
                self._leave(page, settled.state)

    def _leave(self, page: Page, state: str) -> None:
        """The lease ends; what is over for its job is canceled."""
        page.return_to("canceled" if self.jobs[page.job].canceled else state)

    @precondition(lambda self: self.in_state("running"))
    @rule(who=ANY)
    def fall_silent(self, who: int) -> None:
        worker = list(self.workers)[who % len(self.workers)]
        self.record.silence(worker)
        self.workers[worker].silent = True

    @precondition(lambda self: self.workers)
    @rule(who=ANY, forgets=st.booleans(), times=st.integers(1, 2))
    def beat(self, who: int, forgets: bool, times: int) -> None:
        """A worker, alive or revived, names what it holds; or knows nothing of it, after an answer was lost."""
        for _ in range(times):
            self._beat(list(self.workers)[who % len(self.workers)], forgets=forgets)
        if forgets:
            self.sweep()

    def _beat(self, id_: UUID, *, forgets: bool) -> None:
        held = {page.batch for page in self.pages.values() if page.worker == id_ and page.batch is not None}
        worker = self.workers[id_]
        before = 0 if worker.silent else worker.beat  # `silence` has set it so
        self.tick += 1
        named = [] if forgets else sorted(held)
        assert self.record.beat(id_, *named)
        worker.previous, worker.batches = worker.batches, named
        worker.previous_beat, worker.beat, worker.silent = before, self.tick, False

    @precondition(lambda self: self.in_state("running"))
    @rule()
    def sweep(self) -> None:
        lost = unheld = poisoned = 0
        for page in self.in_state("running"):
            assert page.worker is not None
            worker, state = page.worker, "ready"
            if self.workers[worker].holds(page):
                continue
            if not self.workers[worker].silent:
                unheld += 1
            else:
                lost += 1
                if page.losses >= 2:
                    page.proofs.add(worker)
                page.losses += 1
                if len(page.proofs) >= 2:
                    state = "dead"
                    poisoned += 1
            self._leave(page, state)
        swept = self.record.sweep()
        assert (swept.lost, swept.unheld, swept.poisoned) == (lost, unheld, poisoned)

    @precondition(lambda self: self.in_state("dispatched"))
    @rule(restarted=st.booleans())
    def sweep_messages(self, restarted: bool) -> None:
        """An hour later."""
        self.record.run("UPDATE pages SET since = now() - interval '1 hour' WHERE state = 'dispatched'")
        named = {batch for worker in self.workers.values() if not worker.silent for batch in worker.batches}
        lost = [page for page in self.in_state("dispatched") if page.batch not in named]
        for page in lost:
            page.return_to("ready")
        assert self.record.sweep_messages(empty=True, restarted=restarted) == len(lost)


def test_pages_behave_as_their_model(record: Record) -> None:
    run_state_machine_as_test(type("Pages", (Machine,), {"record": record}), settings=PROFILE)
