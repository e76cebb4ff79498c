"""The schema: migrations build what tables.py says, and illegal rows are refused by the database itself."""

from typing import Any

import pytest
from acts import pause, resume
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from builders import Record, scans, settlement
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError

from ocrfleet import db
from ocrfleet.errors import InputNotFound
from ocrfleet.settings import Settings
from ocrfleet.states import (
    JOB_TERMINAL,
    JOB_TRANSITIONS,
    PAGE_TERMINAL,
    PAGE_TRANSITIONS,
    JobState,
    PageState,
)
from ocrfleet.store import control
from ocrfleet.tables import metadata

# Moves are logged; a job may end only in the UPDATE that moves a counter or sets `expanded_at`.
WATCH = """
CREATE TABLE moves (what text, before text, after text);
CREATE FUNCTION log_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.state <> OLD.state THEN INSERT INTO moves VALUES (TG_TABLE_NAME, OLD.state, NEW.state); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_pages AFTER UPDATE ON pages FOR EACH ROW EXECUTE FUNCTION log_move();
CREATE FUNCTION refuse_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'ended by the way'; END $$;
CREATE TRIGGER refuse_ends BEFORE UPDATE ON jobs FOR EACH ROW
    WHEN (NEW.state IN ('completed', 'canceled') AND OLD.state <> NEW.state
          AND (NEW.succeeded, NEW.dead, NEW.canceled, NEW.expanded_at IS NULL)
              = (OLD.succeeded, OLD.dead, OLD.canceled, OLD.expanded_at IS NULL))
    EXECUTE FUNCTION refuse_end();
CREATE TRIGGER log_jobs AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION log_move()"""


def test_the_migrated_schema_is_that_of_the_tables(record: Record) -> None:
    with record.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    # Alembic compares neither checks nor storage parameters nor the conditions of indexes.
    with record.database.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA twin"))
        metadata.create_all(connection.execution_options(schema_translate_map={None: "twin"}))
    migrated, declared = defined(record, "public"), defined(record, "twin")
    assert len(declared) > len(metadata.tables)
    assert migrated == declared


def defined(record: Record, schema: str) -> set[tuple[str, str]]:
    """Constraints, indexes and storage parameters of a schema, by their definitions."""
    found = record.run(
        """
        SELECT c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
        WHERE c.connamespace = to_regnamespace(:schema)
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :schema
        UNION ALL SELECT relname, array_to_string(reloptions, ', ') FROM pg_class
        WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r'""",
        schema=schema,
    )
    return {
        (name, (definition or "").replace(f"{schema}.", ""))
        for name, definition in found
        if not name.startswith("alembic_version")
    }


def test_migrating_again_changes_nothing(record: Record, database_url: str) -> None:
    before = db.revision(record.database)
    assert before is not None
    db.migrate(Settings(database_url=database_url))
    assert db.revision(record.database) == before
    assert [row.name for row in record.run("SELECT name FROM tenants")] == ["default"]


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE pages SET state = 'lost'", "pages_state"),
        ("UPDATE pages SET state = 'running'", "pages_batch|pages_lease"),
        ("UPDATE pages SET state = 'running', batch_id = 1", "pages_lease"),
        ("UPDATE pages SET incarnation = gen_random_uuid()", "pages_lease"),
        ("UPDATE pages SET batch_id = 1", "pages_batch"),
        ("UPDATE pages SET state = 'dispatched'", "pages_batch"),
        ("INSERT INTO pages (item_id, job_id, number) SELECT item_id, job_id, 1 FROM pages", "pages_item_id_number_key"),
        ("INSERT INTO items (job_id, ordinal, bucket, key, state) SELECT job_id, 0, '', '', state FROM items", "_key"),
        ("UPDATE items SET state = 'ready'", "items_state"),
        ("UPDATE jobs SET state = 'done'", "jobs_state"),
        ("UPDATE jobs SET outcome = 'good'", "jobs_outcome"),
        ("UPDATE jobs SET lane = 'fast'", "jobs_lane"),
        ("UPDATE jobs SET state = 'completed'", "jobs_finished"),
        ("UPDATE jobs SET finished_at = now()", "jobs_finished"),
        ("UPDATE jobs SET succeeded = total + 1", "jobs_counters"),
        ("UPDATE tenants SET weight = 0", "tenants_weight"),
        ("INSERT INTO tenants (name) VALUES ('default')", "tenants_name_key"),
        ("INSERT INTO outcomes SELECT id, job_id, 1, 1, 1, 'ready', 'x', '{}' FROM pages", "outcomes_state"),
        ("INSERT INTO outcomes SELECT id, job_id, 1, 1, 1, 'dead', NULL, '{}' FROM pages", "outcomes_code"),
        ("INSERT INTO outcomes SELECT id, job_id, 1, 1, 1, 'succeeded', 'x', '{}' FROM pages", "outcomes_code"),
        (
            "INSERT INTO outcomes SELECT n, job_id, 1, 1, 1, 'succeeded', NULL, '{}' FROM pages, generate_series(1, 2) n",
            "outcomes_job_id_seq_key",
        ),
        (
            "INSERT INTO outcomes SELECT 1, job_id, n, 1, 1, 'succeeded', NULL, '{}' FROM pages, generate_series(1, 2) n",
            "outcomes_pkey",
        ),
    ],
)  # fmt: skip
def test_the_database_refuses(record: Record, statement: str, constraint: str) -> None:
    record.ready(1)
    with pytest.raises(IntegrityError, match=constraint):
        record.run(statement)


def test_a_body_that_is_no_json_is_refused_and_nothing_of_its_flush_is_kept(record: Record) -> None:
    job_id, _, _ = record.running(2)
    good, bad = record.pages(job_id)
    with pytest.raises(DataError):
        record.settle(settlement(good), settlement(bad, body='{"text":'))
    assert (record.states(job_id), record.lines(job_id)) == (["running"] * 2, [])
    record.recount()


def test_terminal_states_are_those_that_nothing_but_a_redrive_leaves() -> None:
    assert {state for state in PageState if PAGE_TRANSITIONS[state] <= {PageState.READY}} == PAGE_TERMINAL
    assert {state for state in JobState if JOB_TRANSITIONS[state] <= {JobState.RUNNING}} - {
        JobState.QUEUED
    } == JOB_TERMINAL


def moved(record: Record, what: str) -> set[tuple[str, str]]:
    return {
        (row.before, row.after) for row in record.run("SELECT * FROM moves WHERE what = :what", what=what)
    }


def test_the_store_moves_states_only_as_the_transitions_allow_and_ends_jobs_only_with_their_counters(
    record: Record,
) -> None:
    for statement in WATCH.split(";\nCREATE"):
        record.run(statement if statement.startswith("\n") else f"CREATE{statement}")
    through_life(record)
    pages, jobs_moved = moved(record, "pages"), moved(record, "jobs")
    assert pages == pairs(PAGE_TRANSITIONS) - {("dead", "ready")}
    assert jobs_moved == pairs(JOB_TRANSITIONS) - {("completed", "running")}


def pairs(transitions: dict[Any, frozenset[Any]]) -> set[tuple[str, str]]:
    return {(before.value, after.value) for before, afters in transitions.items() for after in afters}


def through_life(record: Record) -> None:
    """Every move that the store can make, at least once."""
    job_id, worker, _ = record.running(6)
    done, dead, again, *_, swept = record.pages(job_id)
    record.settle(settlement(done), settlement(dead, PageState.DEAD), settlement(again, PageState.READY))
    record.silence(worker)
    record.sweep()
    record.age(record.dispatch(job_id), 3600)
    record.sweep_messages()
    record.dispatch(job_id, limit=2)
    record.claim(record.worker(), record.dispatch(job_id, limit=1))
    record.cancel(job_id)
    running = [page for page in record.pages(job_id) if page.state == "running"]
    record.settle(*(settlement(page) for page in running))
    assert record.page(swept.id).state == "canceled"
    finished, _, _ = record.running(1)
    record.settle(*(settlement(page) for page in record.pages(finished)))
    record.ready(0)
    record.cancel(record.ready(1))
    for started in (True, False):
        failing = record.job()
        record.expand(failing, scans(1), listed=False)
        if started:
            record.dispatch(failing)
        with record.database.transaction() as session:
            control.fail(session, failing, InputNotFound())
    through_pauses(record)
    record.recount()


def through_pauses(record: Record) -> None:
    """From a pause a job goes on, or ends in each way."""
    for started in (True, False):
        paused = record.running(1)[0] if started else record.ready(1)
        pause(record, paused)
        resume(record, paused)
        pause(record, paused)
        record.cancel(paused)
    finishing, _, _ = record.running(1)
    pause(record, finishing)
    record.settle(*(settlement(page) for page in record.pages(finishing)))
    failing = record.job()
    pause(record, failing)
    with record.database.transaction() as session:
        control.fail(session, failing, InputNotFound())
