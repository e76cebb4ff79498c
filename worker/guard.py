"""The breaker at work: when it opens, nothing more is taken; a probe, then one batch, find out when to go on."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Protocol

import structlog

from ocrfleet.blobs import Blobs
from ocrfleet.errors import EngineCrashed, FleetError, Internal
from worker.breaker import Breaker, State
from worker.engines.base import Engine

log = structlog.get_logger()


class Listener(Protocol):
    """Whoever brings the batches."""

    def __call__(self, *, listen: bool) -> None:
        """Bring more, or none until told otherwise."""
        ...


def _nobody(*, listen: bool) -> None:
    del listen


class Guard:
    """Lives on the runner's loop, where `on_open` is called too; `turn` is for the threads that bring batches."""

    def __init__(
        self,
        breaker: Breaker,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        blobs: Blobs,
        on_open: Callable[[], None],
    ) -> None:
        self.intake: Listener = _nobody
        self._breaker = breaker
        self._loop = loop
        self._engine = engine
        self._blobs = blobs
        self._on_open = on_open
        self._lock = threading.Lock()
        self._trial = False
        self._listening = True
        self._returning: asyncio.Task[None] | None = None

    @property
    def reason(self) -> str | None:
        """Why nothing, or only a trial, is taken."""
        return self._breaker.reason

    @property
    def tripped(self) -> bool:
        return self._breaker.state is State.OPEN

    @property
    def trying(self) -> bool:
        return self._breaker.state is State.HALF_OPEN

    @contextmanager
    def turn(self) -> Generator[bool]:
        """Whether a batch may be claimed; half-open, one at a time."""
        with self._lock:
            state = self._breaker.state
            trial = state is State.HALF_OPEN and not self._trial
            self._trial = self._trial or trial
        if trial:
            self._loop.call_soon_threadsafe(self._listen)
        try:
            yield trial or state is State.CLOSED
        finally:
            if trial:
                self._trial = False
                with suppress(RuntimeError):  # the loop is closed: the worker has stopped
                    self._loop.call_soon_threadsafe(self._listen)

    def settled(self, error: FleetError | None) -> None:
        """What came of a page that was led to its end."""
        self._follow(changed=self._breaker.settled(error))

    def fetched(self) -> None:
        """A page was there, and was known already."""
        self._follow(changed=self._breaker.fetched())

    def _follow(self, *, changed: bool) -> None:
        if not changed:
            return
        if self.tripped:
            log.warning("breaker_opened", reason=self.reason, probe_in=round(self._breaker.due_in(), 1))
            self._on_open()
            self._returning = self._loop.create_task(self._return())
        else:
            log.info("breaker_closed")
        # Not here: whatever Celery says to it must not reach the page.
        self._loop.call_soon(self._listen)

    def stop(self) -> None:
        """Nothing is probed any more, and Celery is left alone; on the loop."""
        self.intake = _nobody
        if self._returning:
            self._returning.cancel()

    async def _return(self) -> None:
        while self.tripped:
            await asyncio.sleep(self._breaker.due_in())
            error = await self._probed()
            self._breaker.probed(error)
            if error:
                wait = round(self._breaker.due_in(), 1)
                log.warning("breaker_probe_failed", code=error.code, error=error.detail, probe_in=wait)
        log.info("breaker_half_open")
        self._listen()

    async def _probed(self) -> FleetError | None:
        try:
            if self._breaker.of_store:
                await asyncio.to_thread(self._blobs.ping)
            elif not await self._engine.healthy():
                return EngineCrashed("the engine is not healthy")
        except FleetError as exc:
            return exc
        except Exception as exc:
            log.exception("probe_failed")
            return Internal(f"{type(exc).__name__}: {exc}")
        return None

    def _listen(self) -> None:
        """Only here and on the loop, so that what is told last is what holds."""
        wanted = not self.tripped and not (self.trying and self._trial)
        if wanted != self._listening:
            self._listening = wanted
            self.intake(listen=wanted)
