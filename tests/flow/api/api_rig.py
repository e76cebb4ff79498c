"""A served API, and a worker that the tests move by hand, through the store."""

import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import uvicorn

from api.app import create_app
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.settings import Settings
from ocrfleet.states import Lane, PageState, WorkerState
from ocrfleet.store import dispatch, jobs, outcomes, pages, workers
from ocrfleet.store.settle import Settlement, settle

NOWHERE = "127.0.0.1:9"
"""Nothing listens there: whoever needs that server fails."""
_CLOCK = threading.Event()


@dataclass
class Api:
    """A served app; `http` sends the default tenant's key."""

    url: str
    http: httpx.Client
    server: uvicorn.Server
    settings: Settings

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    @property
    def requests_in_progress(self) -> int:
        return len(self.server.server_state.tasks)


@contextmanager
def serve(settings: Settings, key: str) -> Generator[Api]:
    """Serve an app as `python -m api` does, in a thread."""
    config = uvicorn.Config(
        create_app(settings), log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
                yield Api(url, http, server, settings)
        finally:
            server.should_exit = True
            thread.join(20)


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition that has to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        _CLOCK.wait(0.02)


class Worker:
    """Registered and alive for as long as a test lasts; it settles what it is told to."""

    def __init__(self, database: Database, tasks: Sequence[str] = ("text",)) -> None:
        self.database = database
        self.incarnation = uuid4()
        registration = workers.Registration(
            self.incarnation,
            "ocr",
            "host",
            1,
            "cpu:1",
            "null",
            "none",
            "1",
            list(tasks),
            8,
            8,
            WorkerState.READY,
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        with database.transaction() as session:
            workers.register(session, registration)

    def settle(self, job_ids: Sequence[UUID], results: Sequence[Mapping[str, Any] | FleetError]) -> int:
        """Dispatch, claim and settle as many ready pages as there are results; returns how many."""
        with self.database.transaction() as session:
            jobs.start(session, job_ids)
            taken = [page for page, _ in dispatch.take(session, job_ids, len(results), suspects=False)]
            (batch,) = dispatch.batch_ids(session, 1)
            fences = dispatch.mark(session, [(batch, taken)])
        with self.database.transaction() as session:
            claimed = pages.claim(session, self.incarnation, sorted(fences.items()))
        with self.database.transaction() as session:
            done = [self._settlement(page, result) for page, result in zip(claimed, results, strict=False)]
            return len(settle(session, done, 60.0))

    def _settlement(self, page: pages.ClaimedPage, result: Mapping[str, Any] | FleetError) -> Settlement:
        failed = isinstance(result, FleetError)
        return Settlement(
            page_id=page.id,
            fence=page.fence,
            job_id=page.job_id,
            item_id=page.item_id,
            attempt=page.attempt,
            state=PageState.DEAD if failed else PageState.SUCCEEDED,
            body=outcomes.error_body(result) if failed else orjson.dumps(result).decode(),
            code=result.code if failed else None,
            incarnation=self.incarnation,
        )

    def serve(self, result: Mapping[str, Any] | FleetError) -> None:
        """From now on end every interactive page so."""
        self._thread = threading.Thread(target=self._serve, args=(result,))
        self._thread.start()

    def _serve(self, result: Mapping[str, Any] | FleetError) -> None:
        while not self._stop.wait(0.02):
            with self.database.transaction() as session:
                demand = dispatch.demand(session, Lane.INTERACTIVE)
            for tenant in demand:
                self.settle(tenant.jobs, [result] * len(tenant.jobs))

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()


StartApi = Callable[..., Api]
NewWorker = Callable[..., Worker]
Expand = Callable[..., UUID]
NewKey = Callable[[str], str]
NewJob = Callable[..., tuple[UUID, str]]
