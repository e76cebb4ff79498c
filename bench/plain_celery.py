"""The plain design to compare with: one Celery task per page, which writes its result, its page and its job.

It is what one would write first: early acknowledgement, a pooled connection per process, one transaction a page, and
otherwise Celery's own defaults (prefork, prefetch multiplier 4). `python -m bench.plain_celery` is its worker.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from celery import Celery, signals
from psycopg_pool import ConnectionPool
from pydantic_settings import BaseSettings, SettingsConfigDict

from ocrfleet.settings import child_environment

SCHEMA = """
DROP TABLE IF EXISTS plain_results, plain_pages, plain_jobs;
CREATE TABLE plain_jobs (id bigint PRIMARY KEY, total bigint NOT NULL, done bigint NOT NULL DEFAULT 0);
CREATE TABLE plain_pages (id bigint PRIMARY KEY, job_id bigint NOT NULL, state text NOT NULL DEFAULT 'queued');
CREATE TABLE plain_results (page_id bigint PRIMARY KEY, body json NOT NULL);
"""


class PlainSettings(BaseSettings):
    """The servers, as for the fleet itself."""

    model_config = SettingsConfigDict(env_prefix="OCRFLEET_")

    database_url: str
    broker_url: str


_pools: list[ConnectionPool[Any]] = []


def make_app(settings: PlainSettings) -> Any:  # noqa: ANN401 (Celery has no types)
    """The application with its one task."""
    app: Any = Celery("plain", broker=settings.broker_url)
    app.conf.update(
        task_ignore_result=True, task_default_queue="plain", broker_connection_retry_on_startup=True
    )

    @app.task(name="plain.page")
    def page(page_id: int, job_id: int) -> None:  # pyright: ignore[reportUnusedFunction]
        with _pools[0].connection() as connection:
            connection.execute("INSERT INTO plain_results VALUES (%s, %s)", (page_id, '{"text": "null"}'))
            connection.execute("UPDATE plain_pages SET state = 'succeeded' WHERE id = %s", (page_id,))
            connection.execute("UPDATE plain_jobs SET done = done + 1 WHERE id = %s", (job_id,))

    return app


def measure(url: str, broker: str, pages: int, concurrency: int) -> float:
    """Pages per second from the first enqueued page to the last committed one."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO plain_jobs VALUES (1, %s)", (pages,))
        connection.execute("INSERT INTO plain_pages SELECT n, 1 FROM generate_series(1, %s) n", (pages,))
        app = make_app(PlainSettings(database_url=url, broker_url=broker))
        worker = _start(url, broker, concurrency)
        try:
            _until(connection, 0, lambda: bool(app.control.ping(timeout=1.0)))
            begin = time.monotonic()
            with app.producer_pool.acquire(block=True) as producer:
                for n in range(1, pages + 1):
                    app.send_task("plain.page", (n, 1), producer=producer)
            _until(connection, pages, lambda: True)
            return pages / (time.monotonic() - begin)
        finally:
            worker.terminate()
            worker.wait()


def _start(url: str, broker: str, concurrency: int) -> "subprocess.Popen[bytes]":
    environment = child_environment(OCRFLEET_DATABASE_URL=url, OCRFLEET_BROKER_URL=broker)
    command = [sys.executable, "-m", "bench.plain_celery", str(concurrency)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _until(connection: "psycopg.Connection[Any]", done: int, also: Callable[[], bool]) -> None:
    while True:
        row = connection.execute("SELECT done FROM plain_jobs").fetchone()
        if row and row[0] >= done and also():
            return
        time.sleep(0.05)


def main(argv: Sequence[str]) -> None:
    """The worker's process."""
    settings = PlainSettings()  # pyright: ignore[reportCallIssue]
    app = make_app(settings)

    def open_pool(**_: Any) -> None:
        _pools[:] = [ConnectionPool(settings.database_url, min_size=1, max_size=2, open=True)]

    forked: Any = signals.worker_process_init
    forked.connect(open_pool, weak=False)
    app.Worker(concurrency=int(argv[1]), loglevel="ERROR", without_gossip=True, without_mingle=True).start()


if __name__ == "__main__":
    main(sys.argv)
