"""Exports of jobs that run again on the way, and to places that are taken."""

import threading

import pytest
from exports_rig import (
    OUT,
    Hooked,
    Kept,
    ask,
    ended_job,
    make,
    named,
    of_another,
    run_all,
    said,
    settle_all,
    state,
)
from fleet_builders import sql, tenant_id, wait_for

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, JobStateConflict
from ocrfleet.states import ExportFormat
from ocrfleet.store import exports, redrives
from ocrfleet.store.exports import NewExport
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive

# Jobs that run again


def redrive(database: Database) -> None:
    with database.transaction() as session:
        redrives.create(session, NewRedrive(tenant_id(session), LetterFilter(all=True), {}), "a-key")


@pytest.mark.parametrize(("unfinished", "again"), [(False, False), (False, True), (True, False)])
def test_a_job_that_is_redriven_on_the_way_is_not_exported_as_whole(
    database: Database, *, unfinished: bool, again: bool
) -> None:
    def change() -> None:
        redrive(database)
        if again:
            settle_all(database, job_id, {"dead.png": [said("read")]})

    job_id = ended_job(database, {**named(220), "dead.png": [CorruptFile("torn")]})
    store = Hooked("put", "out/000.png", change)
    export_id = make(database, job_id, OUT, unfinished=unfinished)
    run_all(database, store)
    ended = state(database, export_id)
    assert ended["state"] == ("completed" if unfinished else "failed")
    if not unfinished:
        assert ended["error"]["code"] == JobStateConflict.code
        assert not {"manifest.jsonl", "_SUCCESS"} & set(store.under())
        assert [key for bucket, key in store.objects if bucket == "ours"] == []


def test_a_job_that_is_redriven_before_leaves_what_lies_there(database: Database) -> None:
    store = Kept()
    job_id = ended_job(database, {**named(1), "dead.png": [CorruptFile("torn")]})
    ask(database, job_id, "jsonl")
    run_all(database, store)
    before = store.under()
    export_id = ask(database, job_id, "jsonl")
    redrive(database)
    run_all(database, store)
    assert state(database, export_id)["error"]["code"] == JobStateConflict.code
    assert store.under() == before


# Places


def test_one_place_is_one_exports_of_whichever_job(database: Database) -> None:
    first, second = ended_job(database, named(1)), ended_job(database, named(1))
    refused: list[JobStateConflict] = []

    def ask_too() -> None:
        try:
            make(database, second, OUT)
        except JobStateConflict as exc:
            refused.append(exc)

    blocked = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    with database.transaction() as session:
        asked = NewExport(first, ExportFormat.JSONL, "exports", OUT)
        export_id = exports.create(session, tenant_id(session), "a-key", asked)
        asking = threading.Thread(target=ask_too)
        asking.start()
        wait_for(lambda: sql(database, blocked) or not asking.is_alive())
    asking.join()
    assert [one.extra for one in refused] == [{"export_id": str(export_id)}]
    assert make(database, first, OUT) == export_id
    assert len(sql(database, "SELECT 1 FROM exports")) == 1


def test_of_another_tenants_export_nothing_is_said_but_that_the_place_is_taken(database: Database) -> None:
    theirs = make(database, of_another(database), OUT, "second")
    with pytest.raises(JobStateConflict) as refused:
        make(database, ended_job(database, named(1)), OUT)
    assert refused.value.extra == {}
    assert str(theirs) not in refused.value.detail
