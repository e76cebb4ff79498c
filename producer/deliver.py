"""Delivering: webhooks' messages are sent under leases, many at a time, and again for as long as the schedule says."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import structlog

from ocrfleet import failpoints
from ocrfleet.db import Database
from ocrfleet.outbound import Answer, Outbound
from ocrfleet.settings import Settings
from ocrfleet.states import DeliveryState
from ocrfleet.store import deliveries, notify, webhooks
from ocrfleet.store.deliveries import Attempt, Due
from ocrfleet.webhooks import sign

log = structlog.get_logger()

PER_WEBHOOK = 4
"""Messages that one receiver is sent at a time."""
GONE = 410
_LEASE = 3.0
"""In times of the timeout: longer than any sending takes, and its record."""
_JITTER = 0.2
_EXPIRE_EVERY = 600.0
_AFTER_ERROR = 1.0
_DATABASE_THREADS = 4

T = TypeVar("T")


class Deliverer:
    """Any number of producers may do so at once; `run` has an event loop of its own."""

    def __init__(self, settings: Settings, database: Database, outbound: Outbound | None = None) -> None:
        self._database = database
        self._outbound = outbound or Outbound(settings)
        self._slots = settings.webhook_in_flight
        self._poll = settings.poll_interval
        self._delays = settings.webhook_retries
        self._lease = _LEASE * settings.webhook_timeout
        self._kept = settings.webhook_days * 86400
        self._busy = Counter[UUID]()
        self._sending: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_DATABASE_THREADS, thread_name_prefix="deliver")
        self._next_expiry = 0.0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`; what is being sent then is ended."""
        asyncio.run(self._run(stop))
        self._threads.shutdown()

    async def _run(self, stop: threading.Event) -> None:
        due = asyncio.Event()
        listening = asyncio.create_task(self._listen(due))
        while not stop.is_set():
            due.clear()
            try:
                await self._round(due)
            except Exception:
                log.exception("deliver_failed")
                await asyncio.sleep(_AFTER_ERROR)
            with suppress(TimeoutError):
                await asyncio.wait_for(due.wait(), self._poll)
        listening.cancel()
        await asyncio.gather(listening, *self._sending, return_exceptions=True)

    async def _listen(self, due: asyncio.Event) -> None:
        async for _ in notify.payloads(self._database.url, notify.DELIVER, "ocrfleet-deliver-listen"):
            due.set()

    async def _round(self, due: asyncio.Event) -> None:
        """Start what is due and has a slot; each end wakes the next round."""
        if time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + _EXPIRE_EVERY
            await self._in_thread(self._expire)
        free = self._slots - self._busy.total()
        if free <= 0:
            return
        for one in await self._in_thread(lambda: self._take(free, dict(self._busy))):
            self._busy[one.webhook_id] += 1
            task = asyncio.create_task(self._deliver(one))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            task.add_done_callback(lambda _: due.set())

    def _take(self, free: int, busy: dict[UUID, int]) -> list[Due]:
        with self._database.transaction() as session:
            return deliveries.lease(
                session, free, self._lease, each=PER_WEBHOOK, busy=busy, slots=self._slots
            )

    async def _deliver(self, due: Due) -> None:
        try:
            body = due.body
            headers = deliveries.HEADERS | sign(due.secrets, due.message_id, int(time.time()), body)
            answer = await self._outbound.post(due.url, headers, body)
            failpoints.reach("deliver.sent")
            await self._in_thread(lambda: self._settle(due, answer))
        except Exception:
            # It is due again when its lease has run out.
            log.exception("delivery_failed", delivery=due.id, webhook_id=str(due.webhook_id))
        finally:
            self._busy -= Counter((due.webhook_id,))  # which also drops what has come to nothing

    def _settle(self, due: Due, answer: Answer) -> None:
        attempt = Attempt(answer.status, answer.fault, answer.milliseconds)
        with self._database.transaction() as session:
            if answer.is_success:
                deliveries.settle(session, due, attempt, DeliveryState.DELIVERED)
            elif answer.status == GONE:
                webhooks.disable(session, due.webhook_id, "the receiver is gone: it answered 410")
                deliveries.settle(session, due, attempt, DeliveryState.FAILED)
            elif due.attempts < len(self._delays):
                wait = max(self._delays[due.attempts], answer.retry_after)
                wait *= 1 + _JITTER * random.random()  # noqa: S311  (no secret)
                deliveries.settle(session, due, attempt, DeliveryState.WAITING, retry_in=wait)
            else:
                fault = (
                    f"a message failed {due.attempts + 1} times, and none arrived meanwhile: {attempt.error}"
                )
                webhooks.disable(session, due.webhook_id, fault, unless_delivered_since=due.created_at)
                deliveries.settle(session, due, attempt, DeliveryState.FAILED)
        if not answer.is_success:
            log.warning("webhook_failed", webhook_id=str(due.webhook_id), error=attempt.error)

    def _expire(self) -> None:
        gone = 1
        while gone:
            with self._database.transaction() as session:
                gone = deliveries.expire(session, self._kept)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
