"""How much to dispatch and to whom: the window, the size of a batch, and the fair share, without any I/O."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from ocrfleet.settings import Settings
from ocrfleet.store.dispatch import Capacity, Demand, Load

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Room:
    """What one round may send to a lane."""

    messages: int
    batch: int
    """Pages a message carries at most."""
    suspects: int
    """Messages, of those, whose pages run alone."""


SUSPECTS = 4
"""Pages that one worker runs alone, one after the other, for emptying itself once; what is interactive waits so long."""


def suspects(capacity: Capacity, load: Load) -> int:
    """Messages of suspects that may still be sent: each stops a worker's other pages, so one for every four workers."""
    return max(0, max(1, capacity.workers // 4) - load.suspects)


def bulk_window(capacity: Capacity, load: Load) -> int:
    """Bulk messages that may still be sent: one slot of each worker stays free for interactive work."""
    return max(0, capacity.slots - capacity.workers - load.messages)


def interactive_window(capacity: Capacity, load: Load, settings: Settings) -> int:
    """Interactive pages that may still be sent, each a message of its own."""
    return max(0, capacity.workers * settings.interactive_window - load.pages)


def batch_pages(capacity: Capacity, settings: Settings) -> int:
    """Pages a bulk message carries: about `batch_seconds` of one engine's measured work.

    Never so few that the slots could not hold twice what the engines want in flight.
    """
    if not capacity.workers:
        return 1
    work = math.ceil(settings.batch_seconds * capacity.pages_per_second / capacity.workers)
    floor = math.ceil(2 * capacity.in_flight / max(1, capacity.slots - capacity.workers))
    return max(1, min(settings.max_batch_pages, max(work, floor)))


def split(pages: Sequence[T], *, messages: int, batch: int, workers: int) -> list[Sequence[T]]:
    """Cut pages into at most `messages` batches of at most `batch`; a few pages are spread over all workers."""
    if not pages or messages < 1:
        return []
    pages = pages[: messages * batch]
    count = min(messages, max(math.ceil(len(pages) / batch), min(workers, len(pages))))
    size, longer = divmod(len(pages), count)
    batches: list[Sequence[T]] = []
    start = 0
    for n in range(count):
        end = start + size + (n < longer)
        batches.append(pages[start:end])
        start = end
    return batches


class FairShare:
    """Deficit round robin over tenants, weighted; what a tenant was owed is remembered while it has work."""

    def __init__(self) -> None:
        self._deficit: dict[UUID, float] = {}

    def serve(
        self, demands: Sequence[Demand], pages: int, take: Callable[[Demand, int], Sequence[T]]
    ) -> list[T]:
        """Take up to `pages` pages; `take(demand, n)` gives up to n of a tenant's, fewer when it may have no more."""
        active = list(demands)
        self._deficit = {demand.tenant_id: self._deficit.get(demand.tenant_id, 0.0) for demand in demands}
        taken: list[T] = []
        while active and len(taken) < pages:
            left, weights = pages - len(taken), sum(demand.weight for demand in active)
            for demand in list(active):
                owed = self._deficit[demand.tenant_id] + left * demand.weight / weights
                wanted = min(math.ceil(owed - 1e-9), pages - len(taken))
                got: Sequence[T] = take(demand, wanted) if wanted > 0 else ()
                taken.extend(got)
                self._deficit[demand.tenant_id] = owed - len(got)
                if len(got) < wanted:
                    # Nothing more to serve: what it did not use is not saved up.
                    active.remove(demand)
                    self._deficit[demand.tenant_id] = 0.0
        return taken
