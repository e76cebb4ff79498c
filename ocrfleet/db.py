"""The database's edge: engines, `transaction()` (the only commit there is) and migrations."""

import importlib
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql
from psycopg.types.array import ListBinaryDumper
from psycopg.types.json import set_json_loads
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from ocrfleet.errors import Forbidden, NotFound
from ocrfleet.settings import Settings

MIGRATIONS = Path(__file__).parent.parent / "migrations"
RESTED = 1.0
"""Seconds after which a connection of the pool is tried before it is used."""


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


def _ping_rested(engine: Engine) -> None:
    """What `pool_pre_ping` does, but only for connections that have rested: a busy one needs no further round trip."""

    def on_checkin(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    def on_checkout(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < RESTED:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as exc:
            # The pool opens another one in its place.
            raise DisconnectionError from exc

    event.listen(engine, "checkin", on_checkin)
    event.listen(engine, "checkout", on_checkout)


class Database:
    """A pool of connections. `application` names them in pg_stat_activity.

    A process that freezes inside a transaction holds its rows locked, and with a job's row the whole job: after
    `silence` seconds without a command the server ends that session by its own clock.
    """

    def __init__(self, url: str, *, application: str, pool_size: int = 8, silence: float = 8.0) -> None:
        self.url = driver_url(url)
        self.engine = tune(
            create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                hide_parameters=True,
                connect_args={
                    "application_name": application,
                    "connect_timeout": 5,
                    "options": f"-c idle_in_transaction_session_timeout={round(silence * 1000)}",
                    # A server that vanished without a word must not hold a heartbeat for minutes.
                    "tcp_user_timeout": 10_000,
                    "keepalives_idle": 10,
                },
            )
        )
        _ping_rested(self.engine)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with Session(self.engine, autoflush=False) as session, session.begin():
            yield session

    @contextmanager
    def statement(self) -> Generator[Session]:
        """A session for one statement, which commits by itself: BEGIN and COMMIT would triple its round trips."""
        with Session(self._single, autoflush=False) as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def unreachable(exc: BaseException) -> bool:
    """The database did not answer or took the connection away, and finds no fault with what was sent."""
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    return isinstance(exc, OperationalError | InterfaceError | PoolTimeout)


def connect(settings: Settings, application: str, *, pool_size: int | None = None) -> Database:
    """The database that the settings name."""
    size = pool_size or settings.database_pool
    silence = settings.heartbeat_timeout
    return Database(settings.database_url, application=application, pool_size=size, silence=silence)


def migrate(settings: Settings) -> None:
    """Bring the schema to the newest revision and make the default tenant; safe to repeat and to race."""
    # By name, since every process loads this file, and none of a running fleet needs Alembic.
    config = importlib.import_module("alembic.config").Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = driver_url(settings.database_url)
    importlib.import_module("alembic.command").upgrade(config, "head")


_GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role};
REVOKE CREATE ON SCHEMA {schema} FROM {role};
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"""
"""Later migrations by the same owner grant their tables too. Before Postgres 15 anybody could make tables."""


def grant(settings: Settings, role: str) -> None:
    """Let a role that owns nothing run the services: it reads and writes every table, and can change none.

    NotFound where the server has no such role; Forbidden for one that would be its own master all the same.
    """
    with psycopg.connect(driver_url(settings.database_url).replace("+psycopg", "", 1)) as connection:
        found = connection.execute(
            "SELECT rolsuper OR pg_has_role(oid, current_user, 'member') FROM pg_roles WHERE rolname = %s",
            [role],
        ).fetchone()
        if found is None:
            raise NotFound(
                f"The server has no role {role!r}; make it with: CREATE ROLE \"{role}\" LOGIN PASSWORD '…'"
            )
        if found[0]:
            raise Forbidden(
                f"The role {role!r} is a superuser or has the rights of the schema's owner already."
            )
        schema = connection.execute("SELECT current_schema()").fetchone()
        names = {"schema": sql.Identifier(schema[0] if schema else "public"), "role": sql.Identifier(role)}
        for statement in _GRANTS.split(";"):
            connection.execute(sql.SQL(statement).format(**names))


def revision(database: Database) -> str | None:
    """The schema's revision, None for an empty database."""
    with database.transaction() as session:
        if session.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
            return None
        return session.execute(text("SELECT version_num FROM alembic_version")).scalar()
