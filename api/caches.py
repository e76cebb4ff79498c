"""What every request needs and few change: who calls, and which workers are alive."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ocrfleet.db import Database
from ocrfleet.errors import Unauthenticated
from ocrfleet.settings import Settings
from ocrfleet.store import dispatch, keys, quotas, tenants, workers
from ocrfleet.store.quotas import Blocked
from ocrfleet.store.tenants import Caller

T = TypeVar("T")
_USED_EVERY = 60.0
"""Seconds between two notes that a key is in use."""


class Recent(Generic[T]):
    """A value read again, aside, when it is older than `seconds`: no request but the first waits for it."""

    def __init__(self, read: Callable[[], T], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: tuple[T, float] | None = None

    def get(self) -> T:
        """At most two periods old, however rarely it is asked for."""
        held = self._held
        age = time.monotonic() - held[1] if held else float("inf")
        if held and age < self._seconds:
            return held[0]
        if held and age < 2 * self._seconds:
            if not self._lock.locked():
                threading.Thread(target=self._renew_aside, args=(held,), daemon=True).start()
            return held[0]
        return self._renew(held)

    def _renew(self, held: tuple[T, float] | None) -> T:
        with self._lock:
            if self._held is None or self._held is held:
                began = time.monotonic()
                self._held = self._read(), began
            return self._held[0]

    def _renew_aside(self, held: tuple[T, float]) -> None:
        # Whoever asks when it has grown too old meets the error itself.
        with suppress(SQLAlchemyError):
            self._renew(held)


@dataclass(frozen=True, slots=True)
class Liveness:
    """The live part of the fleet."""

    workers: int
    """Those that take work."""
    tasks: frozenset[str]
    in_flight: Mapping[UUID, tuple[int, int]] = field(default_factory=dict[UUID, tuple[int, int]])
    """Pages dispatched and running, by job: counted for all callers at once, however many poll and however large the
    fleet is."""
    blocked: Mapping[UUID, Blocked] = field(default_factory=dict[UUID, Blocked])
    """By tenant: what waits for a quota."""


def over_quota(database: Database) -> Mapping[UUID, Blocked]:
    """Ask the record who waits for a quota."""
    with database.transaction() as session:
        return quotas.blocked(session)


def liveness(
    settings: Settings, database: Database, blocked: Recent[Mapping[UUID, Blocked]] | None = None
) -> Liveness:
    """Ask the record who is alive."""
    waiting: Mapping[UUID, Blocked] = blocked.get() if blocked else {}
    with database.transaction() as session:
        alive = dispatch.capacity(session, settings.heartbeat_timeout).workers
        tasks = frozenset(workers.tasks(session, settings.heartbeat_timeout))
        return Liveness(alive, tasks, dispatch.in_flight(session), waiting)


class Callers:
    """Callers by key. A revoked key is refused `seconds` later at the latest."""

    def __init__(self, database: Database, seconds: float = 5.0, size: int = 1000) -> None:
        self._database = database
        self._seconds = seconds
        self._size = size
        self._known: dict[bytes, tuple[Caller, float]] = {}
        self._renewing: dict[bytes, asyncio.Task[None]] = {}
        self._used: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def find(self, key: str) -> Caller:
        """The caller whom the key stands for; asked anew aside, before what is known of it grows too old.

        Unauthenticated: the key stands for nobody.
        """
        digest = hashlib.sha256(key.encode()).digest()
        caller = await self._find(key, digest)
        if time.monotonic() - self._used.get(caller.key_id, -_USED_EVERY) >= _USED_EVERY:
            self._note(caller.key_id)
        return caller

    async def _find(self, key: str, digest: bytes) -> Caller:
        held = self._known.get(digest)
        left = held[1] - time.monotonic() if held else 0.0
        if held is None or left <= 0:
            return await self._renew(key, digest)
        if left < self._seconds / 2 and digest not in self._renewing:
            self._renewing[digest] = asyncio.create_task(self._renew_aside(key, digest))
        return held[0]

    def _note(self, key_id: str) -> None:
        """Write down, aside, that the key is in use."""
        if len(self._used) >= self._size:
            self._used.clear()
        self._used[key_id] = time.monotonic()
        noting = asyncio.create_task(self._touch(key_id))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _touch(self, key_id: str) -> None:
        def touch() -> None:
            with self._database.statement() as session:
                keys.touch(session, key_id)

        with suppress(SQLAlchemyError):
            await run_in_threadpool(touch)

    async def _renew(self, key: str, digest: bytes) -> Caller:
        now = time.monotonic()
        try:
            caller = await run_in_threadpool(self._ask, key)
        except Unauthenticated:
            self._known.pop(digest, None)
            raise
        if len(self._known) >= self._size:
            self._known.clear()
        self._known[digest] = caller, now + self._seconds
        return caller

    async def _renew_aside(self, key: str, digest: bytes) -> None:
        try:
            with suppress(SQLAlchemyError, Unauthenticated):
                await self._renew(key, digest)
        finally:
            self._renewing.pop(digest, None)

    def _ask(self, key: str) -> Caller:
        with self._database.transaction() as session:
            return tenants.authenticate(session, key)
