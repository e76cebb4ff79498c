"""When a worker that ended comes back: what its exit code says, and how long its device waits."""

import random

from ocrfleet.errors import EngineCrashed, FleetError, ModelLoading, NoCapacity, RateLimited

_PASSING = (ModelLoading, NoCapacity, RateLimited)

FAILED = 1
"""Nothing special: it comes back."""
ENGINE_DEATH = 86
"""The engine died after it had read pages: nothing speaks against the device."""
BARREN_DEATH = 87
"""The engine died before a page was read since its start."""
REFUSED = 88
"""The engine refused to start: a version known to be bad, a failed self-test, or what else it says in the record."""
NO_DEVICE_LEFT = 89
"""Of the supervisor itself: every device is quarantined or its engine refuses."""

BARREN_DEATHS = 2
"""Barren deaths in a row after which the device is quarantined."""
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
STEADY = 60.0
"""A worker that lived this long (seconds) has lived well: the next delay is the first again."""


def start_failure(error: FleetError) -> int:
    """The exit code for an engine that did not start: it died, it may start later, or it refuses."""
    if isinstance(error, EngineCrashed):
        return BARREN_DEATH
    return FAILED if isinstance(error, _PASSING) else REFUSED


class Restarts:
    """The deaths of one device's workers."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.refused = False
        """Whether the last one refused to start."""
        self._chance = chance or random.Random()  # noqa: S311 (jitter)
        self._failures = 0
        self._barren = 0

    def after(self, code: int, lived: float) -> float | None:
        """Seconds until the next start after an exit code and a life of so many seconds; None: never, by itself."""
        self.refused = code == REFUSED
        if code == BARREN_DEATH:
            self._barren += 1
        elif code == ENGINE_DEATH or (lived >= STEADY and not self.refused):
            self._barren = 0
        if self._barren >= BARREN_DEATHS:
            return None
        if self.refused:
            return self._jittered(LONGEST_DELAY)
        self._failures = 1 if code == ENGINE_DEATH or lived >= STEADY else self._failures + 1
        return self._jittered(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self._failures - 1, 10)))

    def _jittered(self, seconds: float) -> float:
        return seconds * self._chance.uniform(0.75, 1.25)
