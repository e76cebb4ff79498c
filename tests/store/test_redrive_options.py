"""What a redrive does otherwise: other options, documents that could not be counted; and what it tells."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from builders import Record, settlement
from dead import ALL, dead, died, listed, redrive, told

from ocrfleet.errors import EncryptedPdf, ManifestInvalid
from ocrfleet.store import redrives
from ocrfleet.store.expansion import CountedItem, NewItem
from ocrfleet.store.letters import LetterFilter


def uncounted(record: Record, *, options: dict[str, Any] | None = None, **asked: Any) -> UUID:
    """A job of one document whose counting failed; returns the job's id."""
    job_id = record.job(**asked)
    record.expand(job_id, [NewItem(0, "in", "a.pdf", options=options, countable=True)])
    (pending,) = record.pending()
    record.count(CountedItem(pending, error=EncryptedPdf()))
    return job_id


def test_an_item_that_could_not_be_counted_becomes_its_first_page_and_grows(record: Record) -> None:
    job_id = uncounted(record)
    (nothing,) = record.pages(job_id)
    assert (nothing.number, nothing.state) == (0, "dead")
    redrive_id = redrive(record, override={"password": "secret"})
    (page,) = record.pages(job_id)
    assert (page.id, page.number, page.state) == (nothing.id, 1, "ready")
    (item,) = record.run("SELECT state, page_count FROM items")
    assert tuple(item) == ("counted", None)
    (claimed,) = record.claim(record.worker(), record.dispatch(job_id))
    assert (claimed.page_count, claimed.all_options) == (None, {"password": "secret"})
    record.settle(settlement(claimed, page_count=3))
    assert [(page.number, page.state, page.redrive_id) for page in record.pages(job_id)] == [
        (1, "succeeded", redrive_id),
        (2, "ready", redrive_id),
        (3, "ready", redrive_id),
    ]
    # The further pages need the password too.
    assert [page.all_options for page in record.claim(record.worker(), record.dispatch(job_id))] == [
        {"password": "secret"}
    ] * 2
    assert record.state(job_id).total == 3
    record.recount()


@pytest.mark.parametrize(
    ("job", "item", "override", "first", "further"),
    [
        ({}, {"pages": "3,2-2"}, {}, 2, [3]),
        ({"pages": " 4-9"}, None, {}, 4, [5]),
        ({"pages": "1"}, {"pages": "9"}, {"pages": "2,5"}, 2, [5]),
        ({"pages": "nonsense"}, None, {"pages": "1-2"}, 1, [2]),
    ],
)
def test_of_a_document_only_the_pages_that_are_wanted_come_back(
    record: Record,
    job: dict[str, Any],
    item: dict[str, Any] | None,
    override: dict[str, Any],
    first: int,
    further: list[int],
) -> None:
    job_id = uncounted(record, options=item)
    record.run("UPDATE jobs SET options = CAST(:options AS jsonb)", options=orjson.dumps(job).decode())
    redrive(record, override=override)
    (claimed,) = record.claim(record.worker(), record.dispatch(job_id))
    assert claimed.number == first
    record.settle(settlement(claimed, page_count=5))
    assert [page.number for page in record.pages(job_id)] == [first, *further]
    record.recount()


def test_a_manifests_line_that_names_no_object_cannot_run(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, [NewItem(0, "in", "line 1", error=ManifestInvalid("line 1 is not JSON", line=1))])
    row, left = told(record, redrive(record))
    assert (row["pages"], dict(left.left_out)) == (0, {"manifest_invalid": 1})
    assert record.states(job_id) == ["dead"]


# Options


def test_the_override_goes_over_the_items_options_and_the_jobs_parameter_by_parameter(record: Record) -> None:
    options = {"password": "a", "prompt_language": "en", "parameters": {"temperature": 0.5, "max_tokens": 9}}
    job_id = record.job(options=options)
    record.expand(job_id, [NewItem(0, "in", "0.png", options={"password": "b"})])
    worker = record.worker()
    (page,) = record.claim(worker, record.dispatch(job_id))
    assert (page.all_options, page.override, page.redriven) == (options | {"password": "b"}, None, False)
    record.settle(died(page, EncryptedPdf()))
    redrive(record, override={"password": "c", "parameters": {"max_tokens": 4096}})
    (page,) = record.claim(worker, record.dispatch(job_id))
    assert page.all_options == {
        "password": "c",
        "prompt_language": "en",
        "parameters": {"temperature": 0.5, "max_tokens": 4096},
    }
    assert page.redriven


def test_the_last_redrives_override_counts_alone(record: Record) -> None:
    job_id = dead(record, "encrypted_pdf")
    for override in ({"password": "one"}, {"prompt_language": "en"}):
        redrive(record, override=override)
        (page,) = record.claim(record.worker(), record.dispatch(job_id))
        assert page.all_options == override
        record.settle(died(page, EncryptedPdf()))


def test_a_redrive_is_written_down_without_its_password(record: Record) -> None:
    job_id = dead(record, "encrypted_pdf")
    redrive_id = redrive(
        record, job_id=job_id, override={"password": "secret", "prompt_language": "en"}, rate=2.0
    )
    (act,) = record.run("SELECT * FROM audit")
    assert (act.actor, act.act, act.subject) == ("a-key", "redrive", f"job:{job_id}")
    assert act.detail == {
        "redrive": redrive_id,
        "filter": {"job_id": str(job_id)},
        "override": {"password": "********", "prompt_language": "en"},
        "max_per_second": 2.0,
        "reason": "mended",
        "pages_at_once": 1,
    }


# What it would do


def test_a_plan_counts_by_code_and_job_what_would_run_and_what_would_not(record: Record) -> None:
    first, second = dead(record, "corrupt_file", "empty_output"), dead(record, "corrupt_file", None)
    canceled = dead(record, "corrupt_file", "empty_output")
    record.run("UPDATE jobs SET state = 'canceled' WHERE id = :job", job=canceled)
    with record.database.transaction() as session:
        plan = redrives.plan(session, record.tenant, ALL)
        some = redrives.plan(session, record.tenant, LetterFilter(codes=["empty_output"]))
    assert (plan.pages, plan.by_code) == (3, {"corrupt_file": 2, "empty_output": 1})
    assert plan.by_job == {first: 2, second: 1}
    assert plan.left_out == {"canceled": 2}
    assert (some.pages, some.by_job, some.left_out) == (1, {first: 1}, {"canceled": 1})
    assert len(listed(record)) == 5, "nothing has moved"


def test_redrives_are_listed_newest_first_with_the_states_of_their_pages(record: Record) -> None:
    job_id = dead(record, "corrupt_file", "empty_output", "empty_output")
    made = [redrive(record, codes=[code]) for code in ("corrupt_file", "empty_output")]
    claimed = record.claim(record.worker(), record.dispatch(job_id, limit=2))
    record.settle(settlement(claimed[0]))
    with record.database.transaction() as session:
        found = redrives.listing(session, record.tenant, limit=9)
        behind = redrives.listing(session, record.tenant, limit=9, before=made[1])
    assert [row["id"] for row in found] == made[::-1]
    assert [row["id"] for row in behind] == made[:1]
    assert [[row[name] for name in ("ready", "running", "succeeded")] for row in found] == [
        [1, 1, 0],
        [0, 0, 1],
    ]
