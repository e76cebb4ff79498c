"""A real API server on a fresh database, and a worker that the tests move by hand, through the store."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
import uvicorn

from api.app import create_app
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.settings import Settings
from ocrfleet.states import Lane, PageState, WorkerState
from ocrfleet.store import dispatch, expansion, jobs, outcomes, pages, tenants, workers
from ocrfleet.store.settle import Settlement, settle

NOWHERE = "127.0.0.1:9"
"""Nothing listens there: whoever needs that server fails."""


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
def serve(settings: Settings, key: str) -> Iterator[Api]:
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
        time.sleep(0.02)


@pytest.fixture(name="until")
def given_until() -> Callable[..., None]:
    return until


@pytest.fixture
def new_key(database: Database) -> Callable[[str], str]:
    """Makes a key, and the tenant unless it is the default one."""

    def make(tenant: str) -> str:
        with database.transaction() as session:
            if tenant != tenants.DEFAULT:
                tenants.create(session, tenant)
            return tenants.create_key(session, tenant=tenant)

    return make


@pytest.fixture
def start_api(
    database_url: str, valkey_url: str, new_key: Callable[[str], str]
) -> Iterator[Callable[..., Api]]:
    """Starts an API with these settings; its store is nowhere unless they name one."""
    with ExitStack() as running:

        def start(**settings: Any) -> Api:
            defaults = {
                "database_url": database_url,
                "broker_url": valkey_url,
                "store_url": f"http://{NOWHERE}",
                "store_secret_key": "secret",
                "engine": "rapidocr",
            }
            made = Settings.model_validate(defaults | settings)
            return running.enter_context(serve(made, new_key(tenants.DEFAULT)))

        yield start


@pytest.fixture
def api(start_api: Callable[..., Api]) -> Api:
    return start_api()


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
            taken = [page for page, _ in dispatch.take(session, job_ids, len(results))]
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


@pytest.fixture
def new_worker(database: Database) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(*tasks: str) -> Worker:
        made.append(Worker(database, tasks or ("text",)))
        return made[-1]

    yield make
    for worker in made:
        worker.stop()


@pytest.fixture
def expand(database: Database) -> Callable[..., UUID]:
    """Expands the job that has waited longest into single-page items, as the producer does."""

    def go(count: int, *, listed: bool = True) -> UUID:
        with database.transaction() as session:
            lease = expansion.lease(session, 60)
            assert lease
            items = [expansion.NewItem(n, "scans", f"{n}.png", custom_id=f"c{n}") for n in range(count)]
            expansion.write(session, lease, {"next": count}, items, listed=listed, seconds=60)
            return lease.job_id

    return go
