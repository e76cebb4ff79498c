"""The pool: a connection that was lost while it rested is replaced, one that froze in a transaction holds up nobody."""

import threading
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ocrfleet.db import RESTED, Database, unreachable


def _pid(database: Database) -> int:
    with database.statement() as session:
        return session.execute(text("SELECT pg_backend_pid()")).scalar_one()


def test_a_connection_that_died_at_rest_is_replaced(database: Database, database_url: str) -> None:
    lost = _pid(database)
    assert _pid(database) == lost, "the pool keeps its connection"
    with closing(Database(database_url, application="other")) as two, two.transaction() as session:
        assert session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": lost}).scalar()
    threading.Event().wait(RESTED + 0.1)
    assert _pid(database) != lost


def test_a_statement_commits_by_itself(database: Database, database_url: str) -> None:
    with database.statement() as session:
        session.execute(text("UPDATE tenants SET weight = 7"))
        with closing(Database(database_url, application="other")) as two, two.transaction() as other:
            assert set(other.execute(text("SELECT weight FROM tenants")).scalars()) == {7}


def test_who_freezes_in_a_transaction_loses_it(database: Database, database_url: str) -> None:
    """As a suspended process does it: its locks go by the server's clock, and its transaction cannot be finished."""
    update = text("UPDATE tenants SET weight = weight + 1")

    def freeze() -> None:
        with frozen.transaction() as lost:
            lost.execute(update)
            with database.transaction() as session:
                session.execute(text("SET LOCAL lock_timeout = '20s'"))
                session.execute(update)
            lost.execute(update)

    with closing(Database(database_url, application="frozen", silence=0.2)) as frozen:
        with pytest.raises(DBAPIError) as failure:
            freeze()
        assert unreachable(failure.value), "no fault of what was sent: it may be sent again"
        with frozen.transaction() as session:
            assert set(session.execute(text("SELECT weight FROM tenants")).scalars()) == {2.0}
