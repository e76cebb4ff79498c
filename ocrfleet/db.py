"""The database's edge: engines, `transaction()` (the only commit there is) and migrations."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from alembic import command
from alembic.config import Config
from psycopg.types.array import ListBinaryDumper
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from ocrfleet.settings import Settings

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def driver_url(url: str) -> str:
    """The URL with the psycopg 3 driver named, whichever way the user wrote it."""
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        msg = f"the database must be PostgreSQL, not {scheme!r}"
        raise ValueError(msg)
    return f"postgresql+psycopg://{rest}"


def tune(engine: Engine) -> Engine:
    """Make the driver fast where this system is hot: arrays of JSON texts, and small JSON columns.

    psycopg escapes every quote of a text array by a regular expression; its binary arrays need none. That was half
    of a worker's time at the null engine's speed.
    """

    def on_connect(connection: "psycopg.Connection[Any]", _record: object) -> None:
        connection.adapters.register_dumper(list, ListBinaryDumper)
        set_json_loads(orjson.loads, connection)

    event.listen(engine, "connect", on_connect)
    return engine


class Database:
    """A pool of connections. `application` names them in pg_stat_activity."""

    def __init__(self, url: str, *, application: str, pool_size: int = 8) -> None:
        self.url = driver_url(url)
        self.engine = tune(
            create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={
                    "application_name": application,
                    "connect_timeout": 5,
                    # A server that vanished without a word must not hold a heartbeat for minutes.
                    "tcp_user_timeout": 10_000,
                    "keepalives_idle": 10,
                },
            )
        )
        self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with Session(self.engine, autoflush=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """A session for one SELECT: no BEGIN and no COMMIT, which would triple its round trips."""
        with Session(self._reader, autoflush=False) as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def connect(settings: Settings, application: str, *, pool_size: int | None = None) -> Database:
    """The database that the settings name."""
    size = pool_size or settings.database_pool
    return Database(settings.database_url, application=application, pool_size=size)


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = driver_url(url)
    return config


def migrate(settings: Settings) -> None:
    """Bring the schema to the newest revision and make the default tenant; safe to repeat and to race."""
    command.upgrade(_alembic(settings.database_url), "head")


def revision(database: Database) -> str | None:
    """The schema's revision, None for an empty database."""
    with database.transaction() as session:
        if session.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
            return None
        return session.execute(text("SELECT version_num FROM alembic_version")).scalar()
