"""Failpoints: places with a name at which a process dies or pauses, where the environment says so.

`OCRFLEET_FAILPOINTS="worker.claimed=exit@3,settle.before_commit=pause:5@p0.01"`: what happens is `exit` (SIGKILL, with
no last words) or `pause:SECONDS`; when is `@3` (the third time the point is reached), `@p0.01` (each time by that
probability; `@p0.01/7` seeds it with 7), or each time without an `@`. Unset, a point costs one call that does nothing.
"""

import itertools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

POINTS = {
    "worker.claimed": "pages are claimed and their engine has not seen them",
    "settle.before_insert": "pages have moved, their outcomes are not written",
    "settle.after_insert": "outcomes are written, the job's counters have not moved",
    "settle.before_commit": "a flush is complete and not committed",
    "settle.after_commit": "a flush is committed, and nobody in the process knows",
    "dispatch.committed": "a batch is committed and not published",
    "dispatch.published": "a batch is published, the next one of its round is not",
    "expand.chunk": "a chunk of the input is written, the next one is not",
    "redrive.chunk": "a chunk of a redrive is done, the next one is not",
    "deliver.sent": "a webhook's receiver has answered, and the delivery does not say so",
    "events.applied": "bucket events have become items, the next ones have not",
    "rescan.chunk": "a chunk of a rule's prefix is taken, the next one is not",
    "outputs.written": "outputs of items are in the bucket, and the record does not know",
    "purge.chunk": "a chunk of a purged job's rows is gone, the next one is not",
}


class Unknown(ValueError):  # noqa: N818 (it says what is wrong)
    """A failpoint that is not there, or that is asked for in words which mean nothing."""


@dataclass(slots=True)
class Failpoint:
    """What happens at one point, and when."""

    pause: float | None
    """Seconds; None: the process ends."""
    nth: int = 0
    """Which time, from 1; 0: each."""
    probability: float = 1.0
    chance: random.Random = field(default_factory=random.Random)
    acted: int = 0
    # Of threads that reach it together each gets a number of its own.
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def reach(self) -> None:
        if self.nth not in (0, next(self._numbers)) or self.chance.random() >= self.probability:
            return
        self.acted += 1
        if self.pause is None:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait(self.pause)


def parse(given: str) -> dict[str, Failpoint]:
    """Read the setting; Unknown says what is wrong with it, and what there is."""
    found: dict[str, Failpoint] = {}
    for entry in filter(None, (part.strip() for part in given.split(","))):
        name, _, rest = entry.partition("=")
        if name not in POINTS:
            raise Unknown(f"there is no failpoint {name!r}; there are {', '.join(POINTS)}")
        action, _, when = rest.partition("@")
        try:
            found[name] = _failpoint(action, when)
        except ValueError:
            msg = f"{entry!r} is not NAME=exit or NAME=pause:SECONDS, with @N or @pPROBABILITY behind it"
            raise Unknown(msg) from None
    return found


def _failpoint(action: str, when: str) -> Failpoint:
    kind, _, seconds = action.partition(":")
    if kind not in ("exit", "pause") or (kind == "exit") != (seconds == ""):
        raise ValueError(action)
    pause = float(seconds) if seconds else None
    if not when.startswith("p"):
        return Failpoint(pause, nth=int(when or 0))
    probability, _, seed = when[1:].partition("/")
    chance = random.Random(int(seed)) if seed else random.Random()  # noqa: S311 (no secret)
    return Failpoint(pause, probability=float(probability), chance=chance)


def _off(name: str) -> None:
    del name


reach: Callable[[str], None] = _off
"""Call it by this module, `failpoints.reach("worker.claimed")`: `arm` puts another function here."""


def arm(given: str) -> None:
    """For the process, once, at its start."""
    armed = parse(given)

    def at(name: str) -> None:
        if failpoint := armed.get(name):
            failpoint.reach()

    globals()["reach"] = at if armed else _off
