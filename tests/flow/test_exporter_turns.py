"""Manifests that are joined of parts, several exports at once, and one that several write at."""

import threading
from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from exports_rig import (
    OUT,
    Hooked,
    Kept,
    ask,
    ended_job,
    exporter,
    make,
    named,
    of_another,
    run_all,
    said,
    settle_all,
    state,
)
from fleet_builders import add_job, sql, wait_for
from sqlalchemy.orm import Session

from ocrfleet.db import Database
from ocrfleet.errors import Internal, StorageUnavailable
from ocrfleet.settings import Settings
from ocrfleet.store import exports
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.exports import Export, LeaseLost
from producer.exports.run import Exporter

PARTS = "exporting/"


def take(database: Database) -> Export:
    """The export, for another producer: the lease has run out."""
    sql(database, "UPDATE exports SET leased_until = now()")
    with database.transaction() as session:
        leased = exports.lease(session, 60)
    assert leased is not None
    return leased


# The manifest


def test_items_of_many_archives_all_have_their_line(database: Database) -> None:
    """Ordinals of members have thirteen digits from the 465th archive on."""
    store, ordinals = Kept(), [*range(10**12 - 200, 10**12), *range(10**12, 10**12 + 50)]
    job_id = add_job(database, [NewItem(n, "in", f"{n}.png") for n in ordinals])
    settle_all(database, job_id, {f"{n}.png": [said(str(n))] for n in ordinals})
    export_id = ask(database, job_id, "jsonl")
    run_all(database, store)
    assert state(database, export_id)["state"] == "completed"
    assert [line["ordinal"] for line in store.manifest()] == ordinals


def test_a_manifest_that_lacks_lines_is_never_put(database: Database) -> None:
    store = Kept()
    export_id = ask(database, ended_job(database, named(250)), "jsonl")
    store.refuse["manifest.jsonl"] = [StorageUnavailable("it does not answer")]
    made = exporter(database, store)
    assert made.step()
    store.objects.pop(min(key for key in store.objects if key[1].startswith(PARTS)))
    while state(database, export_id)["finished_at"] is None:
        sql(database, "UPDATE exports SET leased_until = now()")
        assert made.step()
    made.close()
    ended = state(database, export_id)
    assert (ended["state"], ended["error"]["code"]) == ("failed", Internal.code)
    assert "50 lines of 250" in ended["error"]["detail"]
    assert not {"manifest.jsonl", "_SUCCESS"} & set(store.under())


def test_a_chunk_that_came_to_no_end_leaves_no_lines(database: Database) -> None:
    store = Kept()
    export_id = ask(database, ended_job(database, named(2)), "jsonl")
    stale = f"{PARTS}{export_id}/{0:020}-{0:020}.jsonl"
    store.objects["ours", stale] = b'{"ordinal":0,"key":"stale"}\n'
    run_all(database, store)
    assert [line["key"] for line in store.manifest()] == ["000.png", "001.png"]


def test_parts_are_fetched_beside_each_other(database: Database) -> None:
    both = threading.Barrier(2, timeout=20)
    store = Hooked("fetch", PARTS, both.wait)
    export_id = ask(database, ended_job(database, named(250)), "jsonl")
    run_all(database, store)
    assert (state(database, export_id)["state"], len(store.manifest())) == ("completed", 250)


def test_names_that_come_again_are_looked_for_once(database: Database) -> None:
    store = Kept()
    items = [NewItem(n, "in", f"{n:03}.png") for n in range(250)] + [NewItem(250, "two", "000.png")]
    job_id = add_job(database, items)
    settle_all(database, job_id, {item.key: [said(item.key)] for item in items})
    ask(database, job_id, "jsonl")
    store.refuse["out/240.png"] = [StorageUnavailable("it does not answer")]
    run_all(database, store)
    assert sql(database, "SELECT ordinal, occurrence FROM export_names") == [(250, 2)]
    sql(database, "UPDATE exports SET leased_until = now()")
    run_all(database, store)
    assert [line["output"] for line in store.manifest()][-2:] == ["249.png.jsonl", "000.png~2.jsonl"]
    assert sql(database, "SELECT ordinal FROM export_names") == []


# Leases


@pytest.mark.parametrize(
    ("act", "part", "missing"),
    [
        ("fetch", PARTS, {"manifest.jsonl", "_SUCCESS"}),
        ("put", "manifest.jsonl", {"_SUCCESS"}),
    ],
)
def test_who_has_lost_the_lease_joins_nothing(
    database: Database, act: str, part: str, missing: set[str]
) -> None:
    store = Hooked(act, part, lambda: take(database))
    export_id = ask(database, ended_job(database, named(1)), "jsonl")
    made = exporter(database, store)
    assert made.step()
    made.close()
    assert not missing & set(store.under())
    assert [key for _, key in store.objects if key.startswith(PARTS)] != [], "they are the other's now"
    assert state(database, export_id)["state"] == "running"


def test_who_has_lost_the_lease_takes_no_sign_of_success_away(database: Database) -> None:
    store = Kept()
    job_id = ended_job(database, named(1))
    ask(database, job_id, "jsonl")
    made = exporter(database, store)
    blocked = "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'tenants' AND NOT granted"
    with database.transaction() as session:
        # Behind this its step waits, under its lease, before it begins.
        session.connection().exec_driver_sql("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE")
        step = threading.Thread(target=made.step)
        step.start()
        wait_for(lambda: sql(database, blocked))
        take(database)
        store.objects["exports", f"{OUT}_SUCCESS"] = b"the other's"
    step.join()
    made.close()
    assert store.under() == {"_SUCCESS": b"the other's"}


@pytest.mark.parametrize(("act", "part"), [("remove", "_SUCCESS"), ("fetch", PARTS), ("remove", PARTS)])
def test_the_lease_is_kept_whatever_takes_long(database: Database, act: str, part: str) -> None:
    def hold() -> None:
        query = "SELECT leased_until FROM exports"
        before = sql(database, query)
        wait_for(lambda: sql(database, query) != before, 10)

    export_id = ask(database, ended_job(database, named(1)), "jsonl")
    made = Exporter(Settings(bucket="ours", decode_processes=1), database, Hooked(act, part, hold), 3)
    assert made.step()
    made.close()
    assert state(database, export_id)["state"] == "completed"


@pytest.mark.parametrize(
    "act",
    [
        partial(exports.renew, seconds=60),
        partial(exports.advance, cursor={"after": 0}, seconds=60),
        exports.release,
        exports.finish,
    ],
)
def test_the_one_that_came_later_alone_has_the_export(
    database: Database, act: Callable[[Session, Export], object]
) -> None:
    export_id = ask(database, ended_job(database, named(1)), "jsonl")
    late, holder = take(database), take(database)
    (before,) = sql(database, "SELECT * FROM exports")
    with pytest.raises(LeaseLost), database.transaction() as session:
        act(session, late)
    assert sql(database, "SELECT * FROM exports") == [before]
    with database.transaction() as session:
        exports.finish(session, holder)
    assert state(database, export_id)["state"] == "completed"


def test_an_export_that_takes_long_holds_up_those_of_its_tenant_only(database: Database) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert go_on.wait(30)

    long, short = ended_job(database, named(1)), of_another(database)
    made = exporter(database, Hooked("put", "long/manifest.jsonl", hold))
    first = make(database, long, "long/")
    step = threading.Thread(target=made.step)
    step.start()
    try:
        assert reached.wait(30)
        waits, other = make(database, long, "waits/"), make(database, short, "short/", "second")
        assert made.step()
        assert state_of(database, other) == "completed"
        assert made.step() is False
        assert state_of(database, waits) == "queued"
    finally:
        go_on.set()
        step.join()
    assert state_of(database, first) == "completed"
    assert made.step()
    assert state_of(database, waits) == "completed"
    made.close()


def state_of(database: Database, export_id: UUID) -> str:
    return sql(database, "SELECT state FROM exports WHERE id = :id", id=export_id)[0].state
