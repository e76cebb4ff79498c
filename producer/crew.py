"""Threads that must all live: the process whose work is done by halves ends, so that it is started anew."""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()

_AFTER_ERROR = 1.0


class Crew:
    """Starts a thread for each; when one of them ends before `stop`, it sets `stop`, and `died` is true."""

    def __init__(self, runs: Mapping[str, Callable[[], object]], stop: threading.Event) -> None:
        self._stop = stop
        self._died = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(run,), name=name) for name, run in runs.items()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def died(self) -> bool:
        return self._died.is_set()

    def join(self, seconds: float) -> bool:
        """Wait for all, for so long at most; whether they have ended."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, run: Callable[[], object]) -> None:
        try:
            run()
        except Exception:
            log.exception("thread_failed", thread=threading.current_thread().name)
        finally:
            if not self._stop.is_set():
                log.error("thread_died", thread=threading.current_thread().name)
                self._died.set()
                self._stop.set()


def loop(step: Callable[[], object], poll: float, stop: threading.Event) -> None:
    """Run a step again and again, without a pause while it finds work; an error of it is logged."""
    while not stop.is_set():
        try:
            worked = step()
        except Exception:
            log.exception("step_failed")
            stop.wait(_AFTER_ERROR)
            continue
        if not worked:
            stop.wait(poll)
