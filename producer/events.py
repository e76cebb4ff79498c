"""Bucket events: rules are applied to those that wait, and jobs that were open long enough are closed."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ocrfleet import failpoints
from ocrfleet.settings import Settings
from ocrfleet.store import events, rolling

log = structlog.get_logger()

_EXPIRE_EVERY = 60.0
_AFTER_ERROR = 5.0


def limits(settings: Settings) -> rolling.Limits:
    """When jobs of rules are closed, as the settings say."""
    return rolling.Limits(settings.rule_job_seconds, settings.rule_job_items, settings.bucket)


class EventApplier:
    """Runs on the leader, whose session it uses; what it does in one tick is little, since the dispatcher waits."""

    def __init__(
        self, settings: Settings, transaction: Callable[[], AbstractContextManager[Session]]
    ) -> None:
        self._limits = limits(settings)
        self._kept = settings.bucket_event_days * 86400
        self._every = settings.poll_interval
        self._transaction = transaction
        self._next = 0.0
        self._next_expiry = 0.0

    def tick(self) -> None:
        """One step, if it is time for it. A fault of ours here must not keep pages from being dispatched."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        try:
            self.step()
        except DBAPIError as exc:
            if exc.connection_invalidated:
                raise
            log.exception("bucket_events_postponed")
            self._next = time.monotonic() + _AFTER_ERROR

    def step(self) -> int:
        """Close, apply, forget; returns how many events were handled."""
        with self._transaction() as session:
            closed = rolling.close_due(session)
        with self._transaction() as session:
            handled = rolling.apply(session, self._limits)
        if handled or closed:
            log.info("bucket_events_applied", events=handled, jobs_closed=closed)
            failpoints.reach("events.applied")
        if time.monotonic() >= self._next_expiry:
            with self._transaction() as session:
                expired = events.expire(session, self._kept) + events.drop_deleted(session)
            self._next_expiry = time.monotonic() + (0.0 if expired else _EXPIRE_EVERY)
        return handled
