"""The load: tenants that submit one job after the other, a job larger than all, and one page that comes last."""

import random
import statistics
import threading
import time
from collections.abc import Callable

from sqlalchemy import text

from tests.chaos.clients import Findings, Job, Tenant, rest
from tests.chaos.rig import PATIENT, POISON, TENANTS, WHALE, Rig
from tests.chaos.schedule import seeded

WHALE_PAGES = 100_000
CLIENTS = 2
"""Of each tenant."""

_Turn = Callable[[Tenant, random.Random], None]


class Load:
    """All clients together. `with` runs them; `finish` lets their last jobs end."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.findings = Findings()
        self.acknowledged: list[str] = []
        self.deleted: set[str] = set()
        self.waits: list[tuple[float, float]] = []
        """Of single pages behind all others: what each waited for its claim, and how long it might have (seconds)."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._next = 0
        self._patient = Tenant(rig, PATIENT)
        self._tenants = [Tenant(rig, name) for name in TENANTS for _ in range(CLIENTS)]
        self._whale = Tenant(rig, WHALE)
        turns: list[tuple[Tenant, _Turn]] = [(tenant, self._one) for tenant in self._tenants]
        turns.append((self._whale, self._big))
        self._threads = [
            threading.Thread(target=self._run, args=(*turn, seeded(seed, f"client {n}")), daemon=True)
            for n, turn in enumerate(turns)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._end_patience(0.0)

    def finish(self, patience: float) -> None:
        """No further jobs; wait until those that run have ended."""
        self._end_patience(patience)
        self._stopping.set()
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.1, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self.findings.breaches.append(f"jobs had not ended {patience:g} s after the last was submitted")

    def one_page(self) -> None:
        """A page behind everything else waits no longer than the window takes to drain, and its batch to be read."""
        waited: list[float] = []
        allowed: list[float] = []
        for _ in range(3):
            drain = self._drain_seconds()
            job = self._new_job(self._patient, self._take(1))
            job.follow()
            job.check_end()
            waited.append(job.last.get("timings_ms", {}).get("queue", 0) / 1000)
            # The batch it is in stands last in a full window, as every batch does: it takes as long again.
            allowed.append(2 * drain + 0.5)
        wait, limit = statistics.median(waited), statistics.median(allowed)
        self.waits.append((wait, limit))
        if wait > limit:
            self.findings.breaches.append(
                f"one page waited {wait:.1f} s behind the others, the window drains in {limit:.1f} s"
            )

    def _run(self, tenant: Tenant, turn: _Turn, chance: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                turn(tenant, chance)
            except Exception as exc:  # noqa: BLE001  a client that gives up would be an oracle that is silent
                self.findings.breaches.append(f"a client of {tenant.name} failed: {exc!r}")
                rest(1.0)
        tenant.close()

    def _one(self, tenant: Tenant, chance: random.Random) -> None:
        numbers = self._take(chance.randint(400, 3000))
        act = chance.choices(("", "cancel", "pause", "retry", "delete"), (10, 2, 2, 2, 2))[0]
        some = chance.randint(50, 300)
        job = self._new_job(tenant, numbers)
        if act == "cancel" and POISON not in numbers:
            job.follow(lambda: job.heard >= some)
            job.cancel()
            return
        if act == "pause":
            job.follow(lambda: job.heard >= some)
            job.pause()
        job.follow()
        job.check_end()
        if act == "retry" and POISON not in numbers:
            job.retry()
            job.check_end()
        if act == "delete":
            self.deleted.add(job.id)
            job.delete()

    def _big(self, tenant: Tenant, _: random.Random) -> None:
        """Always there, so that the window is full; at the end it is canceled."""
        job = self._new_job(tenant, self._take(WHALE_PAGES))
        job.follow(self._stopping.is_set)
        if self._stopping.is_set():
            job.cancel()
        else:
            job.check_end()

    def _new_job(self, tenant: Tenant, numbers: range) -> Job:
        job_id = tenant.submit(numbers)
        self.acknowledged.append(job_id)
        return Job(tenant, job_id, numbers, self.findings)

    def _take(self, count: int) -> range:
        """Numbers of objects that no other job has: a text tells whose page it is."""
        with self._lock:
            first, self._next = self._next, self._next + count
        return range(first, self._next)

    def _drain_seconds(self) -> float:
        """What is in flight, by the pages that end in two seconds."""
        query = """
            SELECT (SELECT sum(succeeded + dead) FROM jobs) AS ended,
                   (SELECT count(*) FROM pages WHERE state IN ('dispatched', 'running')) AS in_flight"""
        with self.rig.record.transaction() as session:
            before = session.execute(text(query)).one()
        rest(2.0)
        with self.rig.record.transaction() as session:
            after = session.execute(text(query)).one()
        return 2.0 * after.in_flight / max(1, int(after.ended - before.ended))

    def _end_patience(self, seconds: float) -> None:
        for tenant in (*self._tenants, self._whale, self._patient):
            tenant.deadline = min(tenant.deadline, time.monotonic() + seconds)
