"""Dead letters: one list of what failed, found by one filter, with its history; and giving them up."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from builders import Record, scans, settlement
from dead import dead, died, discard, listed, read, redrive
from sqlalchemy import RowMapping

from ocrfleet.errors import CorruptFile, EncryptedPdf, JobStateConflict, ManifestInvalid, OutputInvalid
from ocrfleet.states import PageState
from ocrfleet.store import letters, tenants
from ocrfleet.store.expansion import CountedItem, NewItem
from ocrfleet.store.letters import LetterFilter


def letter(record: Record, page_id: int, tenant: UUID | None = None) -> RowMapping | None:
    with record.database.transaction() as session:
        return letters.get(session, tenant or record.tenant, page_id)


def attempts(record: Record, page_id: int) -> list[RowMapping]:
    with record.database.transaction() as session:
        return list(letters.attempts(session, page_id))


def test_failures_of_items_and_of_pages_stand_in_one_list_newest_first(record: Record) -> None:
    job_id = record.job()
    torn = NewItem(0, "in", "line 1", error=ManifestInvalid("line 1 is not JSON", line=1))
    record.expand(job_id, [torn, *scans(1, start=1, countable=True), *scans(2, start=2)])
    (pending,) = record.pending()
    record.count(CountedItem(pending, error=EncryptedPdf("It needs a password.")))
    read(record, job_id, "corrupt_file", None)
    found = listed(record)
    assert [(one["key"], one["page"], one["code"]) for one in found] == [
        ("2.png", 1, "corrupt_file"),
        ("1.pdf", None, "encrypted_pdf"),
        ("line 1", None, "manifest_invalid"),
    ]
    assert found[2]["error"] == {
        "code": "manifest_invalid",
        "retryable": False,
        "detail": "line 1 is not JSON",
        "line": 1,
    }
    assert len({frozenset(one) for one in found}) == 1
    # Each with an attempt: a page's by a worker, an item's by none.
    assert [[row["worker"] for row in attempts(record, one["id"])] for one in found] == [
        ["ocr@host"],
        [None],
        [None],
    ]


def test_the_list_goes_on_behind_the_letter_before(record: Record) -> None:
    for _ in range(3):
        dead(record, "corrupt_file", "corrupt_file")
    whole = [one["id"] for one in listed(record)]
    assert whole == sorted(whole, reverse=True)
    assert len(whole) == 6
    gathered: list[int] = []
    before = None
    while True:
        with record.database.transaction() as session:
            some = letters.listing(session, record.tenant, LetterFilter(), limit=4, before=before)
        if not some:
            break
        gathered += [one["id"] for one in some]
        before = some[-1]["created_at"], some[-1]["id"]
    assert gathered == whole


@pytest.fixture
def several(record: Record) -> dict[str, UUID]:
    """Two jobs, each read by a worker of its own: five letters, and a page that succeeded."""
    old = record.worker(name="old", model="m", revision="1")
    new = record.worker(name="new", model="m", revision="2")
    return {
        "a": dead(record, "corrupt_file", "corrupt_file", "output_invalid", worker=old),
        "b": dead(record, "corrupt_file", None, "empty_output", worker=new),
    }


@pytest.mark.parametrize(
    ("which", "met"),
    [
        ({}, ["a corrupt_file", "a corrupt_file", "a output_invalid", "b corrupt_file", "b empty_output"]),
        ({"codes": ["output_invalid", "empty_output"]}, ["a output_invalid", "b empty_output"]),
        ({"worker": "new"}, ["b corrupt_file", "b empty_output"]),
        ({"revision": "1", "codes": ["corrupt_file"]}, ["a corrupt_file", "a corrupt_file"]),
        ({"created_after": datetime.now(UTC) + timedelta(days=1)}, []),
        ({"created_before": datetime(2020, 1, 1, tzinfo=UTC)}, []),
        ({"worker": "nobody"}, []),
    ],
)
def test_a_filter_means_the_letters_that_meet_all_of_it(
    record: Record, several: dict[str, UUID], which: dict[str, Any], met: list[str]
) -> None:
    names = {job_id: name for name, job_id in several.items()}
    assert sorted(f"{names[one['job_id']]} {one['code']}" for one in listed(record, **which)) == met
    with record.database.transaction() as session:
        assert letters.count(session, record.tenant, LetterFilter(**which)) == len(met)


def test_letters_are_found_by_job_and_by_id(record: Record, several: dict[str, UUID]) -> None:
    assert {one["job_id"] for one in listed(record, job_id=several["b"])} == {several["b"]}
    two = [one["id"] for one in listed(record)][1:3]
    assert [one["id"] for one in listed(record, page_ids=two)] == two
    assert listed(record, page_ids=two, job_id=several["a"], codes=["empty_output"]) == []


def test_letters_are_found_by_when_they_died(record: Record) -> None:
    dead(record, "corrupt_file", "corrupt_file")
    older, newer = sorted(one["id"] for one in listed(record))
    record.run("UPDATE outcomes SET created_at = created_at - interval '1 day' WHERE page_id = :id", id=older)
    noon = datetime.now(UTC) - timedelta(hours=12)
    assert [one["id"] for one in listed(record, created_after=noon)] == [newer]
    assert [one["id"] for one in listed(record, created_before=noon)] == [older]


@pytest.mark.parametrize(
    ("by", "counted"),
    [
        ("code", {"corrupt_file": 3, "output_invalid": 1, "empty_output": 1}),
        ("worker", {"old": 3, "new": 2}),
        ("revision", {"1": 3, "2": 2}),
        ("job", {"a": 3, "b": 2}),
    ],
)
def test_groups_are_counted_the_largest_first_each_with_an_example(
    record: Record, several: dict[str, UUID], by: str, counted: dict[str, int]
) -> None:
    with record.database.transaction() as session:
        found = letters.groups(session, record.tenant, LetterFilter(), by)
    names = {str(job_id): name for name, job_id in several.items()}
    assert {names.get(row["key"], row["key"]): row["count"] for row in found} == counted
    assert [row["count"] for row in found] == sorted(counted.values(), reverse=True)
    for row in found:
        assert row["oldest"] <= row["newest"]
        assert row["detail"] == f"page {row['example']}"


@pytest.mark.usefixtures("several")
def test_groups_are_of_the_letters_that_the_filter_meets(record: Record) -> None:
    with record.database.transaction() as session:
        found = letters.groups(session, record.tenant, LetterFilter(worker="new"), "code")
    assert {row["key"]: row["count"] for row in found} == {"corrupt_file": 1, "empty_output": 1}


def test_a_letter_has_every_attempt_with_its_worker_its_parameters_and_the_tail_of_what_came_of_it(
    record: Record,
) -> None:
    first = record.worker(name="gpu-0", device="cuda:0", model="Hunyuan", revision="abc")
    second = record.worker(name="gpu-1", device="cuda:1", model="Hunyuan", revision="def")
    job_id = record.ready(1)
    (page,) = record.claim(first, record.dispatch(job_id))
    began = record.page(page.id).since
    tried = {"task": "text", "temperature": 0.0, "partial": "x" * 3000 + "the end"}
    members = {"incarnation": first, "parameters": orjson.dumps(tried).decode()}
    again = died(page, OutputInvalid("no JSON"), **members, timings='{"fetch":3}')
    record.settle(
        settlement(page, PageState.READY, **members, code=again.code, detail="no JSON", timings=again.timings)
    )
    (page,) = record.claim(second, record.dispatch(job_id))
    record.settle(died(page, OutputInvalid("again"), incarnation=second, thumbnail="thumbnails/a.jpg"))
    # Workers are forgotten; what they did is not.
    record.run("DELETE FROM workers")
    one, two = attempts(record, page.id)
    assert (one["attempt"], one["code"], one["detail"]) == (1, "output_invalid", "no JSON")
    assert [one[name] for name in ("worker", "device", "model", "revision")] == [
        "gpu-0",
        "cuda:0",
        "Hunyuan",
        "abc",
    ]
    assert one["parameters"] == {"task": "text", "temperature": 0.0}
    assert one["raw_tail"] == "x" * 1993 + "the end"
    assert one["timings_ms"] == {"fetch": 3}
    assert one["started_at"] == began
    assert one["ended_at"] > began
    assert one["thumbnail"] is None
    assert (two["attempt"], two["worker"], two["revision"]) == (2, "gpu-1", "def")
    assert (two["raw_tail"], two["thumbnail"]) == (None, "thumbnails/a.jpg")
    found = letter(record, page.id)
    assert found is not None
    assert (found["state"], found["attempt"], found["worker"]) == ("dead", 2, "gpu-1")
    assert found["error"]["detail"] == "again"


def test_a_lost_worker_leaves_an_attempt_with_its_name_and_its_beginning(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    began = record.pages(job_id)[0].since
    record.silence(worker)
    record.run("SELECT pg_sleep(0.2)")
    assert record.sweep().lost == 1
    (lost,) = attempts(record, record.pages(job_id)[0].id)
    assert (lost["code"], lost["worker"], lost["started_at"]) == ("worker_lost", "ocr@host", began)


def test_a_letter_is_one_of_a_page_that_died(record: Record) -> None:
    job_id = dead(record, "corrupt_file", None)
    gone, good = record.pages(job_id)
    assert letter(record, good.id) is None
    assert letter(record, 10**12) is None
    assert letter(record, gone.id) is not None
    redrive(record)
    found = letter(record, gone.id)
    assert found is not None
    assert (found["state"], found["code"], len(attempts(record, gone.id))) == ("ready", None, 1)
    assert listed(record) == []


def test_another_tenant_sees_no_letter_and_moves_none(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    page = record.pages(dead(record, "corrupt_file"))[0]
    assert listed(record, tenant=other) == []
    assert letter(record, page.id, other) is None
    with record.database.transaction() as session:
        assert list(letters.groups(session, other, LetterFilter(), "code")) == []
        assert letters.discard(session, other, "k", LetterFilter(all=True), expected=0, reason="x") == 0
    redrive(record, tenant=other)
    assert record.page(page.id).state == "dead"
    assert len(listed(record)) == 1


def test_letters_of_a_deleted_job_and_of_interactive_ones_are_not_there(record: Record) -> None:
    job_id = dead(record, "corrupt_file")
    dead(record, "corrupt_file", lane="interactive")
    (found,) = listed(record)
    assert found["job_id"] == job_id
    record.run("UPDATE jobs SET purged_at = now() WHERE id = :job", job=job_id)
    assert listed(record) == []
    assert letter(record, found["id"]) is None


def test_discarded_letters_are_gone_from_the_list_and_their_pages_stay_dead(record: Record) -> None:
    job_id = dead(record, "corrupt_file", "output_invalid", "corrupt_file")
    before = record.state(job_id)
    assert discard(record, 2, codes=["corrupt_file"]) == 2
    assert [one["code"] for one in listed(record)] == ["output_invalid"]
    assert record.state(job_id) == before
    assert record.states(job_id) == ["dead"] * 3
    record.recount()
    found = letter(record, record.pages(job_id)[0].id)
    assert found is not None
    assert found["discarded_at"] is not None
    (act,) = record.run("SELECT * FROM audit")
    assert (act.actor, act.act, act.subject) == ("a-key", "discard", "dead-letters")
    assert act.detail == {"filter": {"codes": ["corrupt_file"]}, "letters": 2, "reason": "no use"}


@pytest.mark.parametrize("expected", [1, 3])
def test_a_discard_of_another_number_than_expected_does_nothing(record: Record, expected: int) -> None:
    dead(record, "corrupt_file", "corrupt_file")
    with pytest.raises(JobStateConflict) as refused:
        discard(record, expected, codes=["corrupt_file"])
    assert refused.value.extra == {"expected": expected, "actual": 2}
    assert len(listed(record)) == 2
    assert record.run("SELECT * FROM audit") == []


def test_what_died_of_an_engine_that_told_no_revision_is_grouped_too(record: Record) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.settle(settlement(page, PageState.DEAD, code=CorruptFile.code))
    with record.database.transaction() as session:
        (group,) = letters.groups(session, record.tenant, LetterFilter(), "worker")
    assert (group["key"], group["count"]) == (None, 1)
