"""What is done to the fleet, and when: made of a seed, so that a run can be had again.

Kills whose recoveries would disturb one another are in rounds of their own: no lease expires within eight seconds of
the database's start or four of the leader's, so nobody kills those while a worker's pages wait for another. API
kills disturb nobody and go on beside all of them. In a round of mayhem everything happens together; what recovers
there recovers from several things at once, so its kills are not counted and not timed.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

COUNTED = ("worker", "producer", "api", "broker", "postgres")
FAULTS = (
    "freeze worker", "freeze worker", "freeze producer", "freeze postgres", "freeze broker", "freeze api",
    "stop worker", "stop postgres", "flush broker", "shrink broker", "repeat messages", "end backends",
    "silence lines", "silence lines", "cut lines",
    "spoil store", "spoil store", "spoil store",
)  # fmt: skip
LONG = ("freeze worker", "freeze producer")
"""They last up to fifteen seconds, longer than any lease or lock."""


@dataclass(frozen=True, slots=True)
class Step:
    """One act, `pause` seconds after the one before it; some last `seconds`, some choose among several by `choice`."""

    act: str
    pause: float
    choice: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """Tracks run beside each other; `rolling`: the first does not wait until what it killed has recovered."""

    name: str
    tracks: tuple[tuple[Step, ...], ...]
    rolling: bool = False
    mayhem: bool = False


def seeded(seed: int, use: str) -> random.Random:
    """Chance of its own for each use, so that one more draw here changes nothing there."""
    return random.Random(f"{seed}/{use}")  # noqa: S311 (no secret)


def short(seed: int) -> list[Round]:
    """Under three minutes with the start and the end: some forty kills."""
    chance = seeded(seed, "schedule")
    return [
        _workers(chance, 9, api=4),
        _one_by_one(chance, "producer", 5, api=3),
        _one_by_one(chance, "broker", 5, api=2),
        _mayhem(chance, 12.0),
        _one_by_one(chance, "postgres", 5, api=2),
    ]


def cycles(seed: int) -> Iterator[list[Round]]:
    """Of more than a hundred kills each, in about four minutes; endless."""
    chance = seeded(seed, "schedule")
    for n in itertools.count():
        yield [
            _workers(chance, 18, api=11),
            _one_by_one(chance, "producer", 16, api=14),
            *([_mayhem(chance, 45.0)] if n % 3 == 0 else []),
            _one_by_one(chance, "broker", 20, api=12),
            _one_by_one(chance, "postgres", 12, api=10),
        ]


def _workers(chance: random.Random, kills: int, *, api: int) -> Round:
    """One of the workers every two seconds or so, while those killed before are still being recovered."""
    steps = [Step("worker", chance.uniform(2.0, 2.8), chance.randrange(1000)) for _ in range(kills)]
    return Round("workers", (tuple(steps), _api(chance, api)), rolling=True)


def _one_by_one(chance: random.Random, victim: str, kills: int, *, api: int) -> Round:
    """Each when the one before has recovered, and the fleet has worked for a moment."""
    # Choices: the producer or its dispatcher alone; the broker, or the broker and FLUSHALL.
    steps = [Step(victim, chance.uniform(0.3, 1.5), chance.randrange(3)) for _ in range(kills)]
    return Round(f"{victim}s" if victim != "postgres" else "databases", (tuple(steps), _api(chance, api)))


def _api(chance: random.Random, kills: int) -> tuple[Step, ...]:
    return tuple(Step("api", chance.uniform(0.5, 3.0)) for _ in range(kills))


def _mayhem(chance: random.Random, seconds: float) -> Round:
    """Anything at any time, for about so long."""
    steps: list[Step] = []
    left = seconds
    while left > 0:
        act = chance.choice((*FAULTS, *COUNTED))
        lasts = chance.uniform(3.0, 15.0) if act in LONG else chance.uniform(2.0, 7.0)
        steps.append(Step(act, chance.uniform(0.2, 1.6), chance.randrange(1000), lasts))
        left -= steps[-1].pause
    return Round("mayhem", (tuple(steps),), rolling=True, mayhem=True)
