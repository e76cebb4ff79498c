"""The runner: one per process. It owns the engine, leads each page from claim to settle, and says so in heartbeats.

Celery's threads hand it batches and wait; the engine runs on the runner's own event loop; fetch and decode run on
threads ahead of the engine. There is no barrier: pages of any batch, job and tenant are in the engine together.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.blobs import Blobs
from ocrfleet.catalogue import Parameters
from ocrfleet.db import Database
from ocrfleet.errors import (
    EmptyOutput,
    FleetError,
    InferenceTimeout,
    Internal,
    UnknownTask,
)
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane, PageState
from ocrfleet.store import dispatch, pages
from ocrfleet.store.pages import ClaimedPage, Lease
from ocrfleet.store.settle import Settlement
from worker import escalation, results, settlements
from worker.decode import Found, Loaded, Loader
from worker.engines.base import Engine, EngineInfo, PageRequest, PageResult
from worker.escalation import Plan
from worker.gates import BatchGate, PageGate
from worker.rate import Rate
from worker.settle import BatchTracker, Completer, Finished

log = structlog.get_logger()

_AHEAD = 4
"""Pages decoded beyond those that are being loaded, so that the engine never waits for one."""
_INTERACTIVE_THREADS = 2
_HEALTH_TIMEOUT = 5.0
_CLAIM_TRIES, _CLAIM_PAUSE = 3, 0.5


class Runner:
    """Built and started before the worker takes its first message."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs, engine: Engine) -> None:
        self.incarnation: UUID = uuid4()
        self.rate = Rate()
        self.in_flight = 0
        self.succeeded = 0
        """Pages read since the start."""
        self.last_error: str | None = None
        self._settings = settings
        self._database = database
        self._engine = engine
        self._loader = Loader(settings, blobs)
        self._completer = Completer(database)
        self._gate = BatchGate()
        self._held: list[int] = []
        # By lease, not by page: a page that was lost and came back stands twice.
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._waiting: set[Lease] = set()
        self._draining = False
        self._chance = random.Random()  # noqa: S311 (jitter)
        self._loop = asyncio.new_event_loop()
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
        self._reading = PageGate(self._engine.wanted)
        return self.info

    def _ahead(self, lane: Lane) -> int:
        """Pages that may be loading or loaded; without pixels they cost nothing."""
        if not self._engine.reads_pixels:
            return self.info.in_flight
        return _AHEAD + (self._settings.fetch_threads if lane is Lane.BULK else _INTERACTIVE_THREADS)

    def run(self, batch: PageBatch) -> int:
        """Claim a batch and lead its pages to their settlement; blocks, returns how many were ours."""
        # Registered first: from now on the heartbeats say that the batch is here. A repeated message stands twice.
        self._held.append(batch.batch_id)
        try:
            with self._gate.enter(exclusive=batch.exclusive):
                claimed = self._give_back(batch) if self._draining else self._claim(batch)
                tracker = BatchTracker(len(claimed))
                self._loop.call_soon_threadsafe(self._spawn, claimed, batch.lane, tracker)
                tracker.wait()
            return len(claimed)
        finally:
            self._held.remove(batch.batch_id)

    def held(self) -> list[int]:
        """Ids of the batches received and not yet settled."""
        return list(self._held)

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
        self._loop.call_soon_threadsafe(lambda: [self._cancel(lease) for lease in list(self._waiting)])
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

    def _claim(self, batch: PageBatch) -> list[ClaimedPage]:
        for left in reversed(range(_CLAIM_TRIES)):
            try:
                with self._database.transaction() as session:
                    return pages.claim(session, self.incarnation, batch.pages)
            except SQLAlchemyError as exc:
                # A commit whose answer was lost leaves pages running that we do not know of: the sweeper finds
                # that our heartbeats do not name them.
                log.warning("claim_failed", batch_id=batch.batch_id, error=str(exc), tries_left=left)
                time_left = _CLAIM_PAUSE if left else 0.0
                threading.Event().wait(time_left)
        return []

    def _give_back(self, batch: PageBatch) -> list[ClaimedPage]:
        """What came too late goes to another worker at once, instead of when the sweeper misses it."""
        with suppress(SQLAlchemyError), self._database.transaction() as session:
            dispatch.unmark(session, [batch.batch_id])
        return []

    def _cancel(self, lease: Lease) -> None:
        if task := self._tasks.get(lease):
            # After its first step: a task canceled before it would never enter `_lead`, and nobody settle its page.
            self._loop.call_soon(task.cancel)

    def _cancel_all(self) -> None:
        self._draining = True
        self._loop.call_soon_threadsafe(lambda: [self._cancel(lease) for lease in list(self._tasks)])

    def _spawn(self, claimed: list[ClaimedPage], lane: Lane, tracker: BatchTracker) -> None:
        for page in claimed:
            task = self._loop.create_task(self._lead(page, lane, tracker))
            self._tasks[page.lease] = task

    async def _lead(self, page: ClaimedPage, lane: Lane, tracker: BatchTracker) -> None:
        """One page from claim to the completer's queue; whatever happens, it is settled."""
        found, plan = Found(), Plan(page.task, Parameters())
        try:
            plan = escalation.plan(page, self._settings.max_pixels)
            settlement = await self._recognize(page, plan, lane, found)
        except asyncio.CancelledError:
            # Canceled job or drain: the store turns `ready` into `canceled` where the job is.
            settlement = settlements.of(page, self.incarnation, PageState.READY)
        except FleetError as exc:
            settlement = self._failed(page, plan, exc)
        except Exception as exc:
            log.exception("page_failed", page_id=page.id, job_id=str(page.job_id))
            settlement = self._failed(page, plan, Internal(f"{type(exc).__name__}: {exc}"))
        self._tasks.pop(page.lease, None)
        if found.page_count is not None:
            # The further pages of its document do not fail with it.
            settlement = replace(settlement, page_count=found.page_count)
        self._completer.put(Finished(settlement, tracker.done))
        self.rate.count()
        self.succeeded += settlement.state is PageState.SUCCEEDED

    async def _recognize(self, page: ClaimedPage, plan: Plan, lane: Lane, found: Found) -> Settlement:
        claimed = time.monotonic()
        loaded: Loaded | None = None
        async with self._turn(self._loading[lane], page, lane):
            if page.task not in self.info.tasks:
                can = ", ".join(self.info.tasks)
                raise UnknownTask(f"the engine {self.info.name} can do {can}, not {page.task!r}")
            if self._engine.reads_pixels:
                loaded = await self._loop.run_in_executor(self._threads[lane], self._loader.load, page, found)
            # Its place among the pages ahead is kept until the engine takes it: they are bounded by what is decoded.
            await self._wait(self._reading, page, lane)
        try:
            self.in_flight += 1
            started = time.monotonic()
            result = await self._infer(page, plan, lane, loaded)
            ended = time.monotonic()
        finally:
            self.in_flight -= 1
            self._reading.leave()
        waited = started - claimed - (loaded.seconds if loaded else 0.0)
        timings = {"wait": round(1000 * waited), "infer": round(1000 * (ended - started))}
        body = results.body(page, plan, self.info, loaded, result, timings)
        return settlements.of(page, self.incarnation, PageState.SUCCEEDED, body)

    @asynccontextmanager
    async def _turn(self, gate: PageGate, page: ClaimedPage, lane: Lane) -> AsyncGenerator[None]:
        await self._wait(gate, page, lane)
        try:
            yield
        finally:
            gate.leave()

    async def _wait(self, gate: PageGate, page: ClaimedPage, lane: Lane) -> None:
        """What waits has not begun: a drain returns it at once."""
        if self._draining:
            raise asyncio.CancelledError
        self._waiting.add(page.lease)
        try:
            await gate.enter(lane)
        finally:
            self._waiting.discard(page.lease)

    async def _infer(self, page: ClaimedPage, plan: Plan, lane: Lane, loaded: Loaded | None) -> PageResult:
        limit = self._settings.inference_timeout
        clock = asyncio.timeout(None)
        request = PageRequest(
            request_id=f"{page.id}-{page.fence}",
            task=plan.task,
            pixels=loaded.pixels if loaded else None,
            lane=lane,
            prompt=page.prompt if plan.task == page.task else None,
            parameters=plan.parameters,
            options=page.all_options,
            begun=lambda: clock.reschedule(self._loop.time() + limit),
        )
        try:
            async with clock:
                result = await self._engine.recognize(request)
        except TimeoutError as exc:
            await self._engine.abort(request.request_id)
            raise InferenceTimeout(f"the page took longer than {limit:g} s", limit=limit) from exc
        except asyncio.CancelledError:
            await self._engine.abort(request.request_id)
            raise
        if (
            not result.text
            and result.markdown is None
            and result.fields is None
            and "blank_page" not in result.warnings
        ):
            raise EmptyOutput("the engine found no text, and did not call the page blank")
        return result

    def _failed(self, page: ClaimedPage, plan: Plan, error: FleetError) -> Settlement:
        settlement = settlements.failed(page, plan, error, self.incarnation, self._chance)
        self.last_error = f"{settlement.code}: {settlement.detail}"
        return settlement
