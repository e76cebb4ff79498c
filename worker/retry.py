"""What a failure means for its page: retry as a value, decided by the error's class alone."""

import random
from dataclasses import dataclass

from ocrfleet.errors import FleetError

_FREE_BASE, _FREE_CAP = 1.0, 60.0
_BASE, _CAP = 2.0, 300.0
BUDGET = FleetError.tries
"""Failures by a page's own fault, of whatever kind, that end it."""


@dataclass(frozen=True, slots=True)
class Dead:
    """The page ends here."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The page runs again after `delay` seconds; `charged` if this was one of its own failures."""

    delay: float
    charged: bool


def decide(
    error: FleetError, *, attempt: int, failures: int, same: int, chance: random.Random
) -> Dead | Retry:
    """The verdict on attempt `attempt` (from 1) of a page that had failed `failures` times by its own fault.

    `same` of these were this very error. Backoff doubles with full jitter: up to 60 s where the fault lies elsewhere,
    up to 5 minutes where it may be the page's.
    """
    if not error.retryable:
        return Dead()
    if error.free:
        ceiling = min(_FREE_CAP, _FREE_BASE * 2.0 ** min(attempt - failures - 1, 10))
        return Retry(chance.uniform(0, ceiling), charged=False)
    if failures + 1 >= BUDGET or same + 1 >= error.tries:
        return Dead()
    return Retry(chance.uniform(0, min(_CAP, _BASE * 2.0**failures)), charged=True)
