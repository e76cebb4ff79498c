"""Who may run when: pages wait for the engine by lane, and a suspected page waits until it is alone."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ocrfleet.states import Lane

ASK_AGAIN = 0.02
"""Seconds after which pages that wait look again whether there is room."""
MAX_OVERTAKEN = 16
"""Interactive pages that may pass waiting bulk pages in a row."""


class PageGate:
    """As many pages inside as `capacity` says now; interactive ones enter first. For one event loop.

    The capacity follows the engine's own figures, which nobody announces: while a page waits, it is asked again and again.
    """

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._inside = 0
        self._overtaken = 0
        self._asking = False
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {
            Lane.INTERACTIVE: deque(),
            Lane.BULK: deque(),
        }

    async def enter(self, lane: Lane) -> None:
        if self._inside < self._capacity():
            self._inside += 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting[lane].append(turn)
        if not self._asking:
            self._asking = True
            loop.call_later(ASK_AGAIN, self._ask, loop)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn came together with its cancellation: pass it on.
                self.leave()
            raise

    def leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._admit()
        self._asking = any(self._waiting.values())
        if self._asking:
            loop.call_later(ASK_AGAIN, self._ask, loop)

    def _admit(self) -> None:
        room = self._capacity() - self._inside
        while room > 0 and (turn := self._next()):
            turn.set_result(None)
            self._inside += 1
            room -= 1

    def _next(self) -> asyncio.Future[None] | None:
        # However many interactive pages come, every so often a bulk page has its turn.
        first = Lane.BULK if self._overtaken >= MAX_OVERTAKEN else Lane.INTERACTIVE
        for lane in sorted(self._waiting, key=lambda lane: lane != first):
            waiting = self._waiting[lane]
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    overtakes = lane is Lane.INTERACTIVE and bool(self._waiting[Lane.BULK])
                    self._overtaken = self._overtaken + 1 if overtakes else 0
                    return turn
        return None


class BatchGate:
    """Batches share the worker; an exclusive one waits for the others to end and keeps new ones out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._exclusive = 0  # waiting or inside

    @contextmanager
    def enter(self, *, exclusive: bool) -> Generator[None]:
        with self._changed:
            if exclusive:
                self._changed.wait_for(lambda: self._exclusive == 0)
                self._exclusive = 1
                self._changed.wait_for(lambda: self._shared == 0)
            else:
                self._changed.wait_for(lambda: self._exclusive == 0)
                self._shared += 1
        try:
            yield
        finally:
            with self._changed:
                if exclusive:
                    self._exclusive = 0
                else:
                    self._shared -= 1
                self._changed.notify_all()
