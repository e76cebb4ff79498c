"""The runner: one per process. It owns the engine, leads each page from claim to settle, and says so in heartbeats.

Celery's threads hand it batches and wait; the engine runs on the runner's own event loop; fetch and decode run on
threads ahead of the engine. There is no barrier: pages of any batch, job and tenant are in the engine together.
"""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import structlog

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.catalogue import Parameters
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, Internal, UnknownTask
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane, PageState, WorkerState
from ocrfleet.store.pages import ClaimedPage, Lease
from ocrfleet.store.settle import Settlement
from ocrfleet.store.usage import Spent
from worker import escalation, results, settlements
from worker.breaker import Breaker
from worker.cache import ResultCache, worth_keeping
from worker.claims import Claims
from worker.decode import Found, Loaded, Loader, Recalled, Unpacked
from worker.engines.base import Engine, EngineInfo
from worker.escalation import Plan
from worker.gates import BatchGate, PageGate
from worker.guard import Guard, Listener
from worker.infer import read
from worker.rate import Rate
from worker.settle import BatchTracker, Completer, Finished
from worker.thumbnails import Thumbnails

log = structlog.get_logger()

_AHEAD = 4
"""Pages decoded beyond those that are being loaded, so that the engine never waits for one."""
_INTERACTIVE_THREADS = 2
_HEALTH_TIMEOUT = 5.0


class Runner:
    """Built and started before the worker takes its first message."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        engine: Engine,
        breaker: Breaker | None = None,
    ) -> None:
        self.incarnation: UUID = uuid4()
        self.rate = Rate()
        self.succeeded = 0
        """Pages that the engine has read since the start."""
        self._last_error: str | None = None
        self._settings = settings
        self._engine = engine
        self._claims = Claims(database, self.incarnation)
        self._loader = Loader(settings, blobs)
        self._cache = ResultCache(settings, self._loader.limits, database)
        self._completer = Completer(database)
        self._thumbnails = Thumbnails(blobs, settings.bucket)
        self._gate = BatchGate()
        self._held: list[int] = []
        # By lease, not by page: a page that was lost and came back stands twice.
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._waiting: set[Lease] = set()
        self._draining = False
        self._chance = random.Random()  # noqa: S311 (jitter)
        self._loop = asyncio.new_event_loop()
        self._guard = Guard(breaker or Breaker(), self._loop, engine, blobs, self._return_waiting)
        self._thread = threading.Thread(target=self._loop.run_forever, name="runner", daemon=True)
        # Interactive pages do not queue behind bulk ones for a thread.
        self._threads = {
            Lane.BULK: ThreadPoolExecutor(settings.fetch_threads, "bulk"),
            Lane.INTERACTIVE: ThreadPoolExecutor(_INTERACTIVE_THREADS, "interactive"),
        }
        self.info: EngineInfo

    def start(self) -> EngineInfo:
        """Start the engine; it raises what the engine raises."""
        self._thread.start()
        self._completer.start()
        self.info = asyncio.run_coroutine_threadsafe(self._engine.start(), self._loop).result()
        # Loading ahead has gates of its own, so that no page takes a place in the engine before it is decoded, and no
        # interactive page waits behind bulk ones that are.
        self._loading = {lane: PageGate(partial(self._ahead, lane)) for lane in Lane}
        self._reading = PageGate(self._wanted)
        return self.info

    def _wanted(self) -> int:
        """As many as the engine says; one, as long as nobody knows whether it works."""
        return min(1, self._engine.wanted()) if self._guard.trying else self._engine.wanted()

    def _ahead(self, lane: Lane) -> int:
        """Pages that may be loading or loaded; without pixels they cost nothing."""
        if self._guard.trying:
            return 1
        if not self._engine.reads_pixels:
            return self.info.in_flight
        return _AHEAD + (self._settings.fetch_threads if lane is Lane.BULK else _INTERACTIVE_THREADS)

    def run(self, batch: PageBatch) -> int:
        """Claim a batch and lead its pages to their settlement; blocks, returns how many were ours."""
        # Registered first: from now on the heartbeats say that the batch is here. A repeated message stands twice.
        self._held.append(batch.batch_id)
        try:
            with self._gate.enter(exclusive=batch.exclusive), self._guard.turn() as admitted:
                return sum(self._take_turn(turn, admitted=admitted) for turn in batch.turns())
        finally:
            self._held.remove(batch.batch_id)

    def _take_turn(self, batch: PageBatch, *, admitted: bool) -> int:
        ours = admitted and not self._draining
        claimed = self._claims.take(batch) if ours else self._claims.give_back(batch)
        failpoints.reach("worker.claimed")
        tracker = BatchTracker(len(claimed))
        self._loop.call_soon_threadsafe(self._spawn, claimed, batch.lane, tracker)
        tracker.wait()
        return len(claimed)

    def held(self) -> list[int]:
        """Ids of the batches received and not yet settled."""
        return list(self._held)

    def on_intake(self, intake: Listener) -> None:
        """Tell `intake`, from now on, when no batch is wanted, and when again."""
        self._guard.intake = intake

    @property
    def state(self) -> WorkerState:
        """What the heartbeats say."""
        if self._draining:
            return WorkerState.DRAINING
        return WorkerState.TRIPPED if self._guard.tripped else WorkerState.READY

    @property
    def last_error(self) -> str | None:
        """Why nothing is taken now; else what the last page failed with."""
        return self._guard.reason or self._last_error

    @property
    def in_flight(self) -> int:
        """Pages in the engine."""
        return self.rate.in_flight

    def healthy(self) -> bool:
        """Whether the engine can go on; a worker that drains is not asked any more."""
        if self._draining:
            return True
        return asyncio.run_coroutine_threadsafe(self._engine.healthy(), self._loop).result(_HEALTH_TIMEOUT)

    def abort(self, leases: Iterable[Lease]) -> None:
        """Stop pages whose job is being canceled."""
        for lease in leases:
            self._loop.call_soon_threadsafe(self._cancel, lease)

    def drain(self) -> None:
        """Take nothing new: what has not begun goes back now, what has not ended within `drain_timeout` then."""
        self._draining = True
        self._loop.call_soon_threadsafe(self._guard.stop)
        self._loop.call_soon_threadsafe(self._return_waiting)
        # On the loop, with which the timer ends.
        self._loop.call_soon_threadsafe(self._loop.call_later, self._settings.drain_timeout, self._cancel_all)

    def stop(self) -> None:
        """After the last batch: settle what is left, stop the engine."""
        self._cancel_all()
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
        asyncio.run_coroutine_threadsafe(self._engine.stop(), self._loop).result()
        self._completer.stop(timeout=self._settings.drain_timeout)
        self._loader.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def draining(self) -> bool:
        return self._draining

    def _return_waiting(self) -> None:
        """What has not begun goes back at no cost."""
        for lease in list(self._waiting):
            self._cancel(lease)

    def _cancel(self, lease: Lease) -> None:
        if task := self._tasks.get(lease):
            # After its first step: a task canceled before it would never enter `_lead`, and nobody settle its page.
            self._loop.call_soon(task.cancel)

    def _cancel_all(self) -> None:
        self._draining = True
        self._loop.call_soon_threadsafe(self._guard.stop)
        self._loop.call_soon_threadsafe(lambda: [self._cancel(lease) for lease in list(self._tasks)])

    def _spawn(self, claimed: list[ClaimedPage], lane: Lane, tracker: BatchTracker) -> None:
        for page in claimed:
            task = self._loop.create_task(self._lead(page, lane, tracker))
            self._tasks[page.lease] = task

    async def _lead(self, page: ClaimedPage, lane: Lane, tracker: BatchTracker) -> None:
        """One page from claim to the completer's queue; whatever happens, it is settled."""
        found, plan = Found(page.queued_ms), Plan(page.task, Parameters())
        try:
            plan = escalation.plan(page, self._settings.max_pixels)
            settlement = await self._recognize(page, plan, lane, found)
        except asyncio.CancelledError:
            # Canceled job or drain: the store turns `ready` into `canceled` where the job is.
            settlement = settlements.of(page, self.incarnation, PageState.READY)
        except FleetError as exc:
            settlement = self._failed(page, plan, exc, found)
        except Exception as exc:
            log.exception("page_failed", page_id=page.id, job_id=str(page.job_id))
            settlement = self._failed(page, plan, Internal(f"{type(exc).__name__}: {exc}"), found)
        self._tasks.pop(page.lease, None)
        if found.page_count is not None:
            # The further pages of its document do not fail with it.
            settlement = replace(settlement, page_count=found.page_count)
        if settlement.state is PageState.DEAD:
            settlement = replace(settlement, spent=Spent(found.bytes))
        if settlement.state is PageState.DEAD and found.pixels is not None and lane is Lane.BULK:
            key = await self._thumbnails.keep(self._threads[lane], page, found.pixels)
            settlement = replace(settlement, thumbnail=key)
        self._completer.put(Finished(settlement, tracker.done))

    async def _recognize(self, page: ClaimedPage, plan: Plan, lane: Lane, found: Found) -> Settlement:
        loaded: Loaded | None = None
        async with self._turn(self._loading[lane], page, lane):
            if page.task not in self.info.tasks:
                can = ", ".join(self.info.tasks)
                raise UnknownTask(f"the engine {self.info.name} can do {can}, not {page.task!r}")
            if self._engine.reads_pixels:
                recall = partial(self._cache.recall, page, plan, self.info, found)
                known = await self._loop.run_in_executor(
                    self._threads[lane], self._loader.load, page, found, recall
                )
                if isinstance(known, Recalled):
                    self._guard.fetched()
                    body = results.recalled(known.body, found.all_timings())
                    spent = Spent(found.bytes, cached=True)
                    return settlements.of(page, self.incarnation, PageState.SUCCEEDED, body, spent)
                if isinstance(known, Unpacked):
                    self._guard.fetched()
                    return settlements.unpacked(page, self.incarnation, known.members)
                loaded = known
                found.pixels = loaded.pixels
            # Its place among the pages ahead is kept until the engine takes it: they are bounded by what is decoded.
            await self._wait(self._reading, page, lane)
        try:
            with self.rate.page(), found.timed("infer"):
                limit = self._settings.inference_timeout
                result = await read(self._engine, page, plan, lane, loaded, limit)
        finally:
            self._reading.leave()
        self.succeeded += 1
        self._guard.settled(None)
        body, warnings = results.body(page, plan, self.info, loaded, result, found.all_timings())
        spent = settlements.spent(found, result)
        settlement = settlements.of(page, self.incarnation, PageState.SUCCEEDED, body, spent)
        return replace(settlement, cache_key=found.cache_key) if worth_keeping(page, warnings) else settlement

    @asynccontextmanager
    async def _turn(self, gate: PageGate, page: ClaimedPage, lane: Lane) -> AsyncGenerator[None]:
        await self._wait(gate, page, lane)
        try:
            yield
        finally:
            gate.leave()

    async def _wait(self, gate: PageGate, page: ClaimedPage, lane: Lane) -> None:
        """What waits has not begun: a drain returns it at once, and so does a breaker that opens."""
        if self._draining or self._guard.tripped:
            raise asyncio.CancelledError
        self._waiting.add(page.lease)
        try:
            await gate.enter(lane)
        finally:
            self._waiting.discard(page.lease)

    def _failed(self, page: ClaimedPage, plan: Plan, error: FleetError, found: Found) -> Settlement:
        self._guard.settled(error)
        settlement = settlements.failed(
            page, plan, error, self.incarnation, self._chance, found.all_timings()
        )
        self._last_error = f"{settlement.code}: {settlement.detail}"
        return settlement
