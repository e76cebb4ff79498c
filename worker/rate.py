"""How fast this worker's engine is: what its heartbeats say, and what the dispatcher sizes batches by."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

SECONDS, PAGES, LOTS = 10.0, 8, 3
"""What the rate is measured over, at least: seconds of work, pages, and times what is in the engine at once."""
LONGEST = 600.0
"""Seconds of work after which nothing is waited for."""


class Rate:
    """Pages read per second of work, over the last 10 seconds of it or, where pages take longer, over as long as some do.

    The seconds without a page in the engine do not count, nor do pages that the engine had no answer for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.in_flight = 0
        """Pages in the engine now."""
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock()
        self._busy = 0.0
        self._read = 0
        # Pages that came out between two samples, with the seconds of work since those before them: begun anywhere
        # else, the time would be that of a part of a page.
        self._lots: deque[tuple[float, int]] = deque()

    @contextmanager
    def page(self) -> Generator[None]:
        """While a page is in the engine; it is read unless that raises."""
        self._move(1, read=0)
        try:
            yield
        except BaseException:
            self._move(-1, read=0)
            raise
        self._move(-1, read=1)

    def sample(self) -> float:
        """The rate now; 0 while nothing has been read."""
        with self._lock:
            self._advance()
            if self._read:
                self._lots.append((self._busy, self._read))
                self._busy, self._read = 0.0, 0
            seconds = self._busy + sum(seconds for seconds, _ in self._lots)
            pages = sum(pages for _, pages in self._lots)
            wanted = max(PAGES, LOTS * self.in_flight)
            while self._lots:
                rest, read = seconds - self._lots[0][0], pages - self._lots[0][1]
                if rest < SECONDS or (read < wanted and rest < LONGEST):
                    break
                seconds, pages = rest, read
                self._lots.popleft()
            return pages / seconds if seconds else 0.0

    def _move(self, by: int, *, read: int) -> None:
        with self._lock:
            self._advance()
            self.in_flight += by
            self._read += read

    def _advance(self) -> None:
        """Add the seconds of work up to now."""
        now = self._clock()
        if self.in_flight:
            self._busy += now - self._since
        self._since = now
