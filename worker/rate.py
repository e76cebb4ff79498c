"""How fast this worker is: what its heartbeats say, and what the dispatcher sizes batches by."""

import threading
import time


class Rate:
    """Pages per second while there was work, smoothed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled = 0
        self._since = time.monotonic()
        self._rate = 0.0

    def count(self, pages: int = 1) -> None:
        with self._lock:
            self._settled += pages

    def sample(self, *, busy: bool) -> float:
        """Renew the rate; an interval without work says nothing."""
        with self._lock:
            now = time.monotonic()
            elapsed, settled = now - self._since, self._settled
            self._since, self._settled = now, 0
            if settled or busy:
                latest = settled / max(elapsed, 1e-3)
                self._rate = latest if self._rate == 0 else 0.5 * self._rate + 0.5 * latest
            return self._rate
