"""The completer: one thread that settles finished pages in batches, and never gives up on one."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.exc import DBAPIError

from ocrfleet import failpoints
from ocrfleet.db import Database, unreachable
from ocrfleet.errors import Internal
from ocrfleet.states import PageState
from ocrfleet.store import outcomes
from ocrfleet.store.settle import Settlement, settle

log = structlog.get_logger()

MAX_FLUSH = 512
_BACKOFF, _BACKOFF_CAP = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A settlement, and whom to tell once it is recorded."""

    settlement: Settlement
    done: Callable[[], None]


class Completer:
    """What accumulates while one flush commits is the next flush: batches grow with the load, latency does not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)
        self._give_up = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def put(self, finished: Finished) -> None:
        """Never blocks; the window bounds what can wait here."""
        self._queue.put(finished)

    def stop(self, timeout: float) -> None:
        """Settle what is queued, for at most `timeout` seconds; what is left returns by its lease."""
        self._queue.put(None)
        self._thread.join(timeout)
        self._give_up.set()

    def _run(self) -> None:
        open_ = True
        while open_:
            flush: list[Finished] = []
            item = self._queue.get()
            while item is not None:
                flush.append(item)
                if len(flush) == MAX_FLUSH or self._queue.empty():
                    break
                item = self._queue.get()
            open_ = item is not None
            if flush:
                self._settle([f.settlement for f in flush])
                for finished in flush:
                    finished.done()

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Until the database has taken them: an outage delays pages, it does not fail them."""
        delay = _BACKOFF
        while not self._give_up.is_set():
            try:
                with self._database.transaction() as session:
                    settle(session, settlements)
                    failpoints.reach("settle.before_commit")
            # What is no outage lies in the data of some page, and must not end this thread.
            except Exception as exc:  # noqa: BLE001
                if not unreachable(exc):
                    self._split(settlements, exc)
                    return
                log.warning("settle_postponed", pages=len(settlements), error=_reason(exc))
                self._give_up.wait(delay)
                delay = min(_BACKOFF_CAP, delay * 2)
            else:
                failpoints.reach("settle.after_commit")
                return

    def _split(self, settlements: Sequence[Settlement], exc: Exception) -> None:
        """The database refuses the data of some page: halve until only that page fails."""
        if len(settlements) > 1:
            middle = len(settlements) // 2
            self._settle(settlements[:middle])
            self._settle(settlements[middle:])
            return
        (settlement,) = settlements
        error = Internal(f"the database refused the result: {_reason(exc)}")
        log.error("settle_refused", page_id=settlement.page_id, error=error.detail)
        failed = replace(
            settlement,
            state=PageState.DEAD,
            body=outcomes.error_body(error),
            code=error.code,
            detail=error.detail,
            failed=True,
            parameters="{}",
            page_count=None,
            members=(),
        )
        try:
            with self._database.transaction() as session:
                settle(session, [failed])
        except Exception:
            # Its lease brings it back; there is nothing further to say about it here.
            log.exception("settle_failed", page_id=settlement.page_id)


def _reason(exc: Exception) -> str:
    return str(exc.orig if isinstance(exc, DBAPIError) else exc)


class BatchTracker:
    """Lets the Celery thread of a batch wait until its last page is settled."""

    def __init__(self, pages: int) -> None:
        self._left = pages
        self._lock = threading.Lock()
        self._event = threading.Event()
        if not pages:
            self._event.set()

    def done(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._event.set()

    def wait(self) -> None:
        self._event.wait()
