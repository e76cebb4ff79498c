"""The pool: a connection that was lost while it rested is replaced without anybody noticing."""

import threading
from contextlib import closing

from sqlalchemy import text

from ocrfleet.db import RESTED, Database


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
