"""How many requests a server can take, found out from its refusals: additive increase, multiplicative decrease."""

import time


class Window:
    """Begins at `top`. Below the size at which a server last refused, it grows fast, as TCP's does."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._size = float(top)
        self._threshold = float(top)
        self._cut_at = 0.0

    @property
    def size(self) -> int:
        return int(self._size)

    def grow(self) -> None:
        """A request succeeded."""
        step = 1.0 if self._size < self._threshold else 1.0 / self._size
        self._size = min(float(self._top), self._size + step)

    def cut(self, sent_at: float) -> None:
        """A request sent at `sent_at` (time.monotonic()) was refused; what was sent before the last cut tells nothing new."""
        if sent_at >= self._cut_at:
            self._size = self._threshold = max(1.0, self._size / 2)
            self._cut_at = time.monotonic()

    def close(self) -> None:
        """The server is away: one request at a time looks whether it is back, and then all may follow soon."""
        self._threshold = max(self._threshold, self._size)
        self._size = 1.0
