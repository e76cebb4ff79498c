"""The services' database role: it reads and writes every table, and can neither make nor change one."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from builders import Record, settlement
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from ocrfleet import db
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.errors import Forbidden, NotFound
from ocrfleet.settings import Settings
from ocrfleet.store import audit, keys, tenants
from ocrfleet.tables import metadata


@pytest.fixture
def role(servers: Fleet, database_url: str) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"services_{secrets.token_hex(4)}"
    address = database_url.rpartition("@")[2]
    admin_url = f"postgresql://postgres:{servers.state.secret('postgres_admin')}@{address}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for drop in ("DROP OWNED BY {}", "DROP ROLE {}"):
            connection.execute(sql.SQL(drop).format(sql.Identifier(name)))


@pytest.fixture
def granted(database_url: str, role: str) -> Iterator[Database]:
    """The database as that role sees it once it has been granted what it needs."""
    db.grant(Settings(database_url=database_url), role)
    address = database_url.rpartition("@")[2]
    database = Database(f"postgresql://{role}:x@{address}", application="role")
    yield database
    database.close()


def test_the_store_works_under_a_role_that_owns_nothing(granted: Database, role: str) -> None:
    record = Record(granted)
    assert record.scalar("SELECT current_user") == role
    job_id, _, _ = record.running(2)
    record.settle(*(settlement(page) for page in record.pages(job_id)))
    with granted.transaction() as session:
        tenant = tenants.create(session, "other")
        keys.create(session, tenant, "me", name="x", scopes=["read"])
        assert audit.listing(session, tenant, limit=9)
    assert record.state(job_id).state == "completed"
    assert record.scalar("SELECT pages FROM usage") == 2
    record.recount()
    for table in metadata.tables:
        record.run(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608
        record.run(f"DELETE FROM {table} WHERE false")  # noqa: S608


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (n integer)",
        "ALTER TABLE jobs ADD COLUMN mine integer",
        "DROP TABLE audit",
        "TRUNCATE audit",
        "CREATE INDEX mine ON jobs (task)",
        "UPDATE alembic_version SET version_num = 'x'",
    ],
)
def test_it_can_change_no_table(granted: Database, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        granted.transaction() as session,
    ):
        session.execute(text(statement))


def test_tables_of_later_migrations_are_granted_too(granted: Database, database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, n integer)"))
    with granted.transaction() as session:
        session.execute(text("INSERT INTO later (n) VALUES (1)"))


def test_a_role_that_is_not_there_or_is_the_owner_is_refused(database_url: str, database: Database) -> None:
    settings = Settings(database_url=database_url)
    with pytest.raises(NotFound, match="CREATE ROLE"):
        db.grant(settings, "nobody-here")
    with database.transaction() as session:
        owner = session.execute(text("SELECT current_user")).scalar_one()
    with pytest.raises(Forbidden):
        db.grant(settings, owner)
