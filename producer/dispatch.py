"""The dispatcher: moves ready pages into batches, commits, then publishes."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog
from sqlalchemy.orm import Session

from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store import dispatch, jobs
from ocrfleet.store.pages import EXCLUSIVE_AFTER
from producer import plan
from producer.broker import Broker, BrokerUnavailable

log = structlog.get_logger()

Transaction = Callable[[], AbstractContextManager[Session]]


class Dispatcher:
    """Runs on the leader only, on the leader's own session: who loses that session dispatches nothing."""

    def __init__(self, settings: Settings, broker: Broker, transaction: Transaction) -> None:
        self._settings = settings
        self._broker = broker
        self._transaction = transaction
        self._shares = {lane: plan.FairShare() for lane in Lane}

    def round(self) -> int:
        """Fill both windows once, interactive first; returns the number of pages dispatched."""
        with self._transaction() as session:
            capacity = dispatch.capacity(session, self._settings.heartbeat_timeout)
            if not capacity.workers:
                return 0
            load = dispatch.load(session)
        pages = plan.interactive_window(capacity, load[Lane.INTERACTIVE], self._settings)
        sent = self._fill(Lane.INTERACTIVE, capacity, messages=pages, batch=1)
        messages = plan.bulk_window(capacity, load[Lane.BULK])
        batch = plan.batch_pages(capacity, self._settings)
        return sent + self._fill(Lane.BULK, capacity, messages=messages, batch=batch)

    def _fill(self, lane: Lane, capacity: dispatch.Capacity, *, messages: int, batch: int) -> int:
        if messages < 1:
            return 0
        with self._transaction() as session:
            demands = dispatch.demand(session, lane)
            if not demands:
                return 0
            jobs.start(session, [job for demand in demands for job in demand.jobs])
        with self._transaction() as session:
            batches = self._reserve(session, lane, demands, capacity, messages, batch)
        self._publish(batches)
        return sum(len(b.pages) for b in batches)

    def _reserve(
        self,
        session: Session,
        lane: Lane,
        demands: list[dispatch.Demand],
        capacity: dispatch.Capacity,
        messages: int,
        batch: int,
    ) -> list[PageBatch]:
        """Lock pages and move them into batches; those beyond the window stay ready."""
        taken = self._shares[lane].serve(
            demands, messages * batch, lambda job_ids, limit: dispatch.take(session, job_ids, limit)
        )
        alone = [page for page, losses in taken if losses >= EXCLUSIVE_AFTER][:messages]
        shared = [page for page, losses in taken if losses < EXCLUSIVE_AFTER]
        cut = plan.split(shared, messages=messages - len(alone), batch=batch, workers=capacity.workers)
        groups = [[page] for page in alone] + [list(pages) for pages in cut]
        if not groups:
            return []
        numbered = list(zip(dispatch.batch_ids(session, len(groups)), groups, strict=True))
        fences = dispatch.mark(session, numbered)
        return [
            PageBatch(
                batch_id,
                lane,
                [(page, fences[page]) for page in sorted(pages) if page in fences],
                exclusive=n < len(alone),
            )
            for n, (batch_id, pages) in enumerate(numbered)
        ]

    def _publish(self, batches: list[PageBatch]) -> None:
        """Send what is committed; batches the broker did not take go back at once."""
        for n, batch in enumerate(batches):
            try:
                self._broker.publish(batch)
            except BrokerUnavailable as exc:
                unsent = [b.batch_id for b in batches[n:]]
                with self._transaction() as session:
                    returned = dispatch.unmark(session, unsent)
                log.warning(
                    "broker_unavailable", error=str(exc), batches=len(unsent), pages_returned=returned
                )
                raise
