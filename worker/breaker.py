"""A circuit breaker: after many failures in a row that are no page's fault, a worker leaves the pages to others.

Closed, it counts. Open, nothing counts, and a probe is due every now and then. Half-open, after a probe that passed,
the first page that gets an answer closes it, and the first failure opens it again for twice as long.
"""

import random
import time
from collections.abc import Callable
from enum import Enum

from ocrfleet.errors import (
    EmptyOutput,
    EngineOom,
    FleetError,
    InferenceTimeout,
    Internal,
    OutputInvalid,
    OutputTruncated,
    RepetitionLoop,
    StorageUnavailable,
)

LIMIT = 25
FIRST, CAP = 5.0, 60.0
"""Seconds until the first probe, and at most until a later one."""
JITTER = 0.25
"""By this share a probe may come earlier or later: workers that one outage stopped do not come back as one."""
_BLAMELESS = (Internal, EngineOom, InferenceTimeout)
"""Perhaps the page's own fault; not that of 25 pages in a row."""
_ANSWERS = (EmptyOutput, OutputInvalid, OutputTruncated, RepetitionLoop)
"""An answer that is no use shows all the same that store and engine do their work."""


class State(Enum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


def counts(error: FleetError) -> bool:
    """Whether the error may be this worker's, its engine's or its store's; what a file or a caller did never is."""
    return error.free or isinstance(error, _BLAMELESS)


class Breaker:
    """For one thread; others may look at `state` and `reason`."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        limit: int = LIMIT,
        first: float = FIRST,
        cap: float = CAP,
    ) -> None:
        self.state = State.CLOSED
        self.reason: str | None = None
        """Why it is not closed."""
        self.of_store = False
        """The last failure that counted was the store's, not the engine's."""
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 (jitter)
        self._limit = limit
        self._first, self._cap = first, cap
        self._delay = first
        self._due = 0.0
        self._failures = 0

    def settled(self, error: FleetError | None) -> bool:
        """What came of a page, None for its result; True if that opens or closes the breaker."""
        if self.state is State.OPEN:
            # The page began before, and may have needed nothing of what is broken now.
            return False
        if error is None or isinstance(error, _ANSWERS):
            return self._close()
        if not counts(error):
            return False
        self._failures += 1
        self.of_store = isinstance(error, StorageUnavailable)
        if self.state is State.HALF_OPEN:
            self._delay = min(self._cap, 2 * self._delay)
        elif self._failures < self._limit:
            return False
        self._open(f"the last {error.code}: {error.detail}")
        return True

    def fetched(self) -> bool:
        """A page had its document and needed no engine: good news of the store, none of the engine."""
        return self.of_store and self.settled(None)

    def due_in(self) -> float:
        """Seconds until the next probe of an open breaker."""
        return max(0.0, self._due - self._clock())

    def probed(self, error: FleetError | None) -> None:
        """What the probe of an open breaker found."""
        if error is None:
            self.state = State.HALF_OPEN
            return
        self._delay = min(self._cap, 2 * self._delay)
        self._open(f"a probe found {error.code}: {error.detail}")

    def _close(self) -> bool:
        changed = self.state is not State.CLOSED
        self.state, self.reason = State.CLOSED, None
        self._failures, self._delay = 0, self._first
        return changed

    def _open(self, why: str) -> None:
        self.state = State.OPEN
        self.reason = f"held back after {self._failures} failures in a row, {why}"
        self._due = self._clock() + self._delay * self._chance.uniform(1 - JITTER, 1 + JITTER)
