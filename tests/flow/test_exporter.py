"""Exports of jobs that are over: a file for each input, the manifest, and `_SUCCESS` last; whatever goes wrong on the way."""

import hashlib

import orjson
import pytest
from exports_rig import Kept, ask, ended_job, exporter, run_all, said, settle_all, state
from fleet_builders import add_job, sql, tenant_id, wait_for
from sqlalchemy import text

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, EncryptedPdf, InputAccessDenied, StorageUnavailable
from ocrfleet.settings import Settings
from ocrfleet.store import control, export_reads, exports
from ocrfleet.store.expansion import NewItem
from producer.exports.run import Exporter


class Crash(BaseException):
    """The producer is gone, in the middle of it."""


@pytest.fixture
def store() -> Kept:
    return Kept()


def test_each_input_has_a_file_of_its_lines_by_page_and_one_line_in_the_manifest(
    database: Database, store: Kept
) -> None:
    job_id = ended_job(
        database,
        {
            "2026/a.pdf": [said("one"), said("two"), CorruptFile("torn")],
            "b.png": [said("three")],
            "c.pdf": [EncryptedPdf("it is locked")],
        },
    )
    export_id = ask(database, job_id, "jsonl")
    run_all(database, store)
    files = store.under()
    assert list(files) == ["2026/a.pdf.jsonl", "_SUCCESS", "b.png.jsonl", "c.pdf.jsonl", "manifest.jsonl"]
    lines = [orjson.loads(line) for line in files["2026/a.pdf.jsonl"].splitlines()]
    assert [(line["page"], line["state"]) for line in lines] == [
        (1, "succeeded"),
        (2, "succeeded"),
        (3, "dead"),
    ]
    assert [line.get("text") for line in lines] == ["one", "two", None]
    assert lines[2]["error"]["code"] == "corrupt_file"
    manifest = store.manifest()
    assert [(line["key"], line["pages"], line["state"], line["code"]) for line in manifest] == [
        ("2026/a.pdf", 3, "partial", "corrupt_file"),
        ("b.png", 1, "succeeded", None),
        ("c.pdf", 1, "dead", "encrypted_pdf"),
    ]
    for line in manifest:
        data = files[line["output"]]
        assert (line["bytes"], line["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    ended = state(database, export_id)
    sizes = sum(len(data) for key, data in files.items() if key.endswith((".png.jsonl", ".pdf.jsonl")))
    assert (ended["state"], ended["items"], ended["failed"], ended["bytes"]) == ("completed", 3, 0, sizes)
    assert orjson.loads(files["_SUCCESS"])["items"] == 3
    assert {bucket for bucket, _ in store.objects} == {"exports"}, "our own bucket is left as it was"


def test_markdown_joins_the_pages_of_a_document_and_says_what_is_missing(
    database: Database, store: Kept
) -> None:
    job_id = ended_job(
        database,
        {
            "a.pdf": [said("one"), {"text": "two", "markdown": "# two"}, CorruptFile("torn"), said("four")],
            "b.png": [said("three\n")],
            "c.pdf": [EncryptedPdf("it is locked")],
        },
    )
    ask(database, job_id, "markdown")
    run_all(database, store)
    files = store.under()
    assert files["a.pdf.md"].decode() == (
        "one\n\n<!-- page 2 -->\n\n# two\n\n<!-- page 3: corrupt_file -->\n\n<!-- page 4 -->\n\nfour\n"
    )
    assert files["b.png.md"] == b"three\n"
    assert "c.pdf.md" not in files
    assert [line["output"] for line in store.manifest()] == ["a.pdf.md", "b.png.md", None]


def test_a_crash_in_the_middle_is_gone_on_from_and_no_input_stands_twice(
    database: Database, store: Kept
) -> None:
    names = [f"{n:03}.png" for n in range(450)]
    job_id = ended_job(database, {name: [said(name)] for name in names})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["out/250.png"] = [Crash()]
    first = exporter(database, store)
    with pytest.raises(Crash):
        first.step()
    first.close()
    assert state(database, export_id)["items"] == 200, "the first chunk is behind the cursor"
    store.objects.pop(("exports", "out/010.png.jsonl"))
    second = exporter(database, store)
    assert second.step() is False, "the lease has not run out"
    sql(database, "UPDATE exports SET leased_until = now()")
    assert second.step() is True
    second.close()
    ended = state(database, export_id)
    assert (ended["state"], ended["items"]) == ("completed", 450)
    assert [line["key"] for line in store.manifest()] == names
    assert "010.png.jsonl" not in store.under(), "what was behind the cursor is not written again"


def test_a_crash_after_the_manifest_leaves_it_whole(database: Database, store: Kept) -> None:
    job_id = ended_job(database, {"a.png": [said("a")], "b.png": [said("b")]})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["_SUCCESS"] = [Crash()]
    first = exporter(database, store)
    with pytest.raises(Crash):
        first.step()
    first.close()
    assert "_SUCCESS" not in store.under()
    sql(database, "UPDATE exports SET leased_until = now()")
    run_all(database, store)
    assert [line["key"] for line in store.manifest()] == ["a.png", "b.png"]
    assert (state(database, export_id)["state"], "_SUCCESS" in store.under()) == ("completed", True)


def test_while_the_store_is_away_the_export_waits(database: Database, store: Kept) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["a.png"] = [StorageUnavailable("it does not answer")]
    run_all(database, store)
    assert (state(database, export_id)["state"], store.under()) == ("running", {})
    sql(database, "UPDATE exports SET leased_until = now()")
    run_all(database, store)
    assert state(database, export_id)["state"] == "completed"


def test_a_bucket_that_refuses_ends_the_export_with_its_words(database: Database, store: Kept) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["a.png"] = [InputAccessDenied("not yours")]
    run_all(database, store)
    ended = state(database, export_id)
    assert (ended["state"], ended["error"]) == (
        "failed",
        {"code": "input_access_denied", "detail": "not yours"},
    )


def test_an_export_whose_job_is_deleted_ends_canceled_and_cleans_up(database: Database, store: Kept) -> None:
    job_id = ended_job(database, {f"{n:03}.png": [said("a")] for n in range(250)})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["out/220.png"] = [StorageUnavailable("it does not answer")]
    run_all(database, store)
    assert [key for bucket, key in store.objects if bucket == "ours"] != []
    with database.transaction() as session:
        control.delete(session, tenant_id(session), job_id, actor="a-key")
    sql(database, "UPDATE exports SET leased_until = now()")
    run_all(database, store)
    ended = state(database, export_id)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "canceled")
    assert "_SUCCESS" not in store.under()
    assert [key for bucket, key in store.objects if bucket == "ours"] == []


def test_nothing_counts_that_was_written_after_the_job_was_deleted(database: Database) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    ask(database, job_id, "jsonl")
    with database.transaction() as session:
        leased = exports.lease(session, 60)
        assert leased is not None
        control.delete(session, tenant_id(session), job_id, actor="a-key")
    with pytest.raises(exports.LeaseLost), database.transaction() as session:
        exports.advance(session, leased, {"after": 0}, seconds=60)


def test_of_two_producers_with_one_cursor_only_the_first_moves_it(database: Database) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    export_id = ask(database, job_id, "jsonl")
    with database.transaction() as session:
        leased = exports.lease(session, 60)
        assert leased is not None
    with database.transaction() as session:
        exports.advance(session, leased, {"after": 0}, seconds=60, items=1)
    with pytest.raises(exports.LeaseLost), database.transaction() as session:
        exports.advance(session, leased, {"after": 0}, seconds=60, items=1)
    assert state(database, export_id)["items"] == 1


def test_inputs_of_one_name_keep_files_of_their_own(database: Database, store: Kept) -> None:
    items = [NewItem(n, bucket, "a.png") for n, bucket in enumerate(["one", "two", "three"])]
    items.append(NewItem(3, "one", "manifest"))
    job_id = add_job(database, items)
    settle_all(database, job_id, {"a.png": [said("a")], "manifest": [said("m")]})
    ask(database, job_id, "jsonl")
    run_all(database, store)
    outputs = [line["output"] for line in store.manifest()]
    assert outputs == ["a.png.jsonl", "a.png~2.jsonl", "a.png~3.jsonl", "manifest~1.jsonl"]
    buckets = [orjson.loads(store.under()[name])["bucket"] for name in outputs]
    assert buckets == ["one", "two", "three", "one"]


def test_a_key_that_no_store_can_hold_costs_its_input_only(database: Database, store: Kept) -> None:
    long = "k" * 1020
    job_id = ended_job(database, {long: [said("a")], "b.png": [said("b")]})
    export_id = ask(database, job_id, "jsonl")
    run_all(database, store)
    assert [(line["output"], line["code"]) for line in store.manifest()] == [
        (None, "validation_failed"),
        ("b.png.jsonl", None),
    ]
    assert (state(database, export_id)["state"], state(database, export_id)["failed"]) == ("completed", 1)


def test_a_running_job_gives_what_there_is(database: Database, store: Kept) -> None:
    job_id = add_job(database, 3)
    settle_all(database, job_id, {f"{n}.png": [said(str(n))] for n in range(3)})
    sql(database, "UPDATE pages SET state = 'ready' WHERE id = (SELECT max(id) FROM pages)")
    ask(database, job_id, "jsonl", partial=True)
    run_all(database, store)
    assert [(line["state"], line["output"]) for line in store.manifest()] == [
        ("succeeded", "0.png.jsonl"),
        ("succeeded", "1.png.jsonl"),
        ("running", None),
    ]


def test_a_second_export_to_the_place_takes_its_sign_of_success_away_first(
    database: Database, store: Kept
) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    ask(database, job_id, "jsonl")
    run_all(database, store)
    ask(database, job_id, "jsonl")
    store.refuse["a.png"] = [StorageUnavailable("it does not answer")]
    run_all(database, store)
    assert "_SUCCESS" not in store.under()


def test_our_own_fault_ends_an_export_after_some_tries(database: Database, store: Kept) -> None:
    job_id = ended_job(database, {"a.png": [said("a")]})
    export_id = ask(database, job_id, "jsonl")
    store.refuse["a.png"] = [RuntimeError("a slip") for _ in range(9)]
    made = exporter(database, store)
    while state(database, export_id)["state"] != "failed":
        sql(database, "UPDATE exports SET leased_until = now()")
        assert made.step()
    made.close()
    assert state(database, export_id)["error"]["code"] == "internal"
    assert len(store.refuse["a.png"]) == 4


def test_a_million_lines_are_not_read_at_once(database: Database) -> None:
    """Pages are read in steps, also those of one document."""
    job_id = ended_job(database, {"a.pdf": [said(str(n)) for n in range(7)], "b.png": [said("b")]})
    seen: list[tuple[int, int]] = []
    with database.transaction() as session:
        while rows := export_reads.pages(
            session, job_id, after=seen[-1] if seen else (0, -1), last=1, limit=3
        ):
            assert len(rows) <= 3
            seen += [(row.ordinal, row.number) for row in rows]
    assert seen == [(0, n) for n in range(1, 8)] + [(1, 1)]


def test_a_real_store_holds_an_export(database: Database, s3: Settings, store: Kept) -> None:
    del store
    from ocrfleet import blobs

    real: Blobs = blobs.connect(s3)
    real.ensure_bucket("exports-real")
    job_id = ended_job(database, {"ä/ü 1.png": [said("a")]})
    with database.transaction() as session:
        asked = exports.NewExport(job_id, exports.ExportFormat.JSONL, "exports-real", "e/")
        export_id = exports.create(session, tenant_id(session), "a-key", asked)
    made = Exporter(s3, database, real)
    wait_for(lambda: made.step() is False or state(database, export_id)["finished_at"])
    made.close()
    assert state(database, export_id)["state"] == "completed", state(database, export_id)["error"]
    keys = [info.key for info in real.scan("exports-real", "e/")]
    assert sorted(keys) == ["e/_SUCCESS", "e/manifest.jsonl", "e/ä/ü 1.png.jsonl"]
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM exports WHERE finished_at IS NULL")).scalar() == 0
