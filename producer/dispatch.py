"""The dispatcher: moves ready pages into batches, commits, then publishes."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from ocrfleet import failpoints
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store import dispatch, jobs
from producer import plan
from producer.broker import Broker, BrokerUnavailable
from producer.quotas import Allowances

log = structlog.get_logger()

Transaction = Callable[[], AbstractContextManager[Session]]


class Dispatcher:
    """Runs on the leader only, on the leader's own session: who loses that session dispatches nothing."""

    def __init__(self, settings: Settings, broker: Broker, transaction: Transaction) -> None:
        self._settings = settings
        self._broker = broker
        self._transaction = transaction
        self._shares = {lane: plan.FairShare() for lane in Lane}
        self._suspects = {lane: plan.FairShare() for lane in Lane}
        self._allowances = Allowances()

    def round(self) -> int:
        """Fill both windows once, interactive first; returns the number of pages dispatched."""
        with self._transaction() as session:
            capacity = dispatch.capacity(session, self._settings.heartbeat_timeout)
            if not capacity.workers:
                return 0
            rooms = self._rooms(capacity, dispatch.load(session))
            self._allowances.renew(session)
            demands = {
                lane: [d for d in dispatch.demand(session, lane) if self._allowances.left(d.tenant_id) > 0]
                for lane, room in rooms.items()
                if room.messages > 0
            }
        sent = 0
        for lane in demands:
            if demands[lane]:
                sent += self._fill(lane, demands[lane], capacity, rooms[lane])
        return sent

    def _rooms(self, capacity: dispatch.Capacity, load: dict[Lane, dispatch.Load]) -> dict[Lane, plan.Room]:
        interactive, bulk = load[Lane.INTERACTIVE], load[Lane.BULK]
        pages = plan.interactive_window(capacity, interactive, self._settings)
        messages, batch = plan.bulk_window(capacity, bulk), plan.batch_pages(capacity, self._settings)
        return {
            Lane.INTERACTIVE: plan.Room(pages, 1, plan.suspects(capacity, interactive)),
            Lane.BULK: plan.Room(messages, batch, plan.suspects(capacity, bulk)),
        }

    def _fill(
        self, lane: Lane, demands: list[dispatch.Demand], capacity: dispatch.Capacity, room: plan.Room
    ) -> int:
        with self._transaction() as session:
            batches, job_ids = self._reserve(session, lane, demands, capacity, room)
        if job_ids:
            # Apart from the pages' locks: a job's row is locked before its pages, or not beside them.
            with self._transaction() as session:
                jobs.start(session, job_ids)
        self._publish(batches)
        return sum(len(b.pages) for b in batches)

    def _reserve(
        self,
        session: Session,
        lane: Lane,
        demands: list[dispatch.Demand],
        capacity: dispatch.Capacity,
        room: plan.Room,
    ) -> tuple[list[PageBatch], list[UUID]]:
        """Lock pages and move them into batches; returns these and the jobs they are of.

        Suspects go first, but few at a time: each of their messages empties a whole worker.
        """
        mine: defaultdict[UUID, list[int]] = defaultdict(list)
        take = partial(self._take, session, mine, suspects=True)
        size = min(plan.SUSPECTS, room.batch)
        found = self._suspects[lane].serve(demands, size * min(room.suspects, room.messages), take)
        alone = plan.split(found, messages=math.ceil(len(found) / size), batch=size, workers=1)
        messages = room.messages - len(alone)
        take = partial(self._take, session, mine, suspects=False)
        shared = self._shares[lane].serve(demands, messages * room.batch, take)
        cut = plan.split(shared, messages=messages, batch=room.batch, workers=capacity.workers)
        groups = [*alone, *cut]
        if not groups:
            return [], []
        numbers = dispatch.batch_ids(session, len(groups))
        ids = [sorted(page for page, _ in group) for group in groups]
        fences = dispatch.mark(session, list(zip(numbers, ids, strict=True)))
        batches = [
            PageBatch(number, lane, [(page, fences[page]) for page in pages], exclusive=n < len(alone))
            for n, (number, pages) in enumerate(zip(numbers, ids, strict=True))
        ]
        return batches, sorted({job for group in groups for _, job in group})

    def _take(
        self,
        session: Session,
        mine: defaultdict[UUID, list[int]],
        demand: dispatch.Demand,
        limit: int,
        *,
        suspects: bool,
    ) -> Sequence[tuple[int, UUID]]:
        """Further pages of one tenant beside those that are `mine`, as many as its quota lets it have."""
        limit = min(limit, self._allowances.left(demand.tenant_id))
        if limit <= 0:
            return []
        beside = mine[demand.tenant_id]
        taken = dispatch.take(session, demand.jobs, limit, suspects=suspects, beside=beside)
        self._allowances.spend(demand.tenant_id, len(taken))
        beside.extend(page for page, _ in taken)
        return taken

    def _publish(self, batches: list[PageBatch]) -> None:
        """Send what is committed; batches the broker did not take go back at once."""
        for n, batch in enumerate(batches):
            try:
                failpoints.reach("dispatch.committed")
                self._broker.publish(batch)
                failpoints.reach("dispatch.published")
            except BrokerUnavailable as exc:
                unsent = [b.batch_id for b in batches[n:]]
                with self._transaction() as session:
                    returned = dispatch.unmark(session, unsent)
                log.warning(
                    "broker_unavailable", error=str(exc), batches=len(unsent), pages_returned=returned
                )
                raise
