"""Runners with real parts around them; only the engine is a test's own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import structlog

from ocrfleet import blobs
from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from worker.breaker import Breaker
from worker.engines.base import Engine
from worker.runner import Runner


@dataclass
class Runners:
    """Makes runners and stops them at the end."""

    database: Database
    started: list[Runner] = field(default_factory=list)

    def __call__(
        self,
        engine: Engine,
        *,
        store: Blobs | None = None,
        database: Database | None = None,
        breaker: Breaker | None = None,
        **settings: Any,
    ) -> Runner:
        config = Settings(**{"decode_processes": 1, "drain_timeout": 5.0} | settings)
        runner = Runner(config, database or self.database, store or NullBlobs(0), engine, breaker)
        runner.start()
        self.started.append(runner)
        return runner


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """The pretty tracebacks that structlog prints by default take longer than the tests that cause them."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Stand in for Celery's: each hands a batch to a runner and waits."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def start_runner(database: Database, threads: ThreadPoolExecutor) -> Iterator[Callable[..., Runner]]:
    del threads  # stopping a runner sets free those that wait in it
    runners = Runners(database)
    yield runners
    for runner in runners.started:
        runner.stop()


@pytest.fixture(scope="session")
def store(s3: Settings) -> Blobs:
    """The real S3 server."""
    return blobs.connect(s3)


@pytest.fixture
def broker_url(valkey_url: str) -> str:
    """A database of Valkey's for one test, empty."""
    url = f"{valkey_url.rpartition('/')[0]}/9"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
