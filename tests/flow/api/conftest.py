"""A real API server on a fresh database, and what its tests are made with."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import psycopg
import pytest
from api_rig import NOWHERE, Api, Expand, NewKey, NewWorker, StartApi, Worker, serve
from pydantic import SecretStr

from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import expansion, tenants


@pytest.fixture
def new_key(database: Database) -> NewKey:
    """Makes a key, and the tenant unless it is the default one."""

    def make(tenant: str) -> str:
        with database.transaction() as session:
            if tenant != tenants.DEFAULT:
                tenants.create(session, tenant)
            return tenants.create_key(session, tenant=tenant)

    return make


@pytest.fixture
def start_api(database_url: str, valkey_url: str, new_key: NewKey) -> Iterator[StartApi]:
    """Starts an API with these settings; its store is nowhere unless they name one."""
    with ExitStack() as running:

        def start(**settings: Any) -> Api:
            defaults = {
                "database_url": database_url,
                "broker_url": valkey_url,
                "store_url": f"http://{NOWHERE}",
                "store_secret_key": "secret",
                "engine": "rapidocr",
                "heartbeat_timeout": 600.0,
            }
            made = Settings.model_validate(defaults | settings)
            return running.enter_context(serve(made, new_key(tenants.DEFAULT)))

        yield start


@pytest.fixture(scope="session")
def strict(postgres_url: str, template: str, valkey_url: str) -> Iterator[Api]:
    """An API of low limits, for requests that it refuses; its store is nowhere, and it has a worker."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE strict TEMPLATE {template}".encode())
    settings = Settings(
        database_url=f"{postgres_url.rpartition('/')[0]}/strict",
        broker_url=valkey_url,
        store_url=f"http://{NOWHERE}",
        store_secret_key=SecretStr("secret"),
        heartbeat_timeout=3600.0,
        max_inline_objects=10,
        max_prompt_chars=10,
        max_request_bytes=100_000,
        sync_max_bytes=1000,
    )
    database = Database(settings.database_url, application="test")
    with database.transaction() as session:
        key = tenants.create_key(session)
    worker = Worker(database)
    with serve(settings, key) as api:
        yield api
    worker.stop()
    database.close()


@pytest.fixture
def api(start_api: StartApi) -> Api:
    return start_api()


@pytest.fixture
def new_worker(database: Database) -> Iterator[NewWorker]:
    made: list[Worker] = []

    def make(*tasks: str) -> Worker:
        made.append(Worker(database, tasks or ("text",)))
        return made[-1]

    yield make
    for worker in made:
        worker.stop()


@pytest.fixture
def expand(database: Database) -> Expand:
    """Expands the job that has waited longest into single-page items, as the producer does."""

    def go(count: int, *, listed: bool = True) -> UUID:
        with database.transaction() as session:
            lease = expansion.lease(session, 60)
            assert lease
            items = [expansion.NewItem(n, "scans", f"{n}.png", custom_id=f"c{n}") for n in range(count)]
            expansion.write(session, lease, {"next": count}, items, listed=listed, seconds=60)
            return lease.job_id

    return go
