"""Outcomes: one row a page, replaced only by a higher fence, read in the order of their sequence."""

import json
from dataclasses import replace

import pytest
from builders import Record, settlement

from ocrfleet.errors import EncryptedPdf, Internal
from ocrfleet.states import PageState
from ocrfleet.store import outcomes
from ocrfleet.store.outcomes import Outcome


def write(record: Record, *rows: Outcome) -> None:
    with record.database.transaction() as session:
        outcomes.write(session, rows)


def kept(record: Record) -> list[tuple[int, int, str]]:
    return [
        tuple(row)
        for row in record.run("SELECT page_id, fence, CAST(body AS text) FROM outcomes ORDER BY seq")
    ]


@pytest.mark.parametrize(("fence", "replaced"), [(6, False), (7, False), (8, True)])
def test_an_outcome_is_replaced_only_by_a_higher_fence(record: Record, fence: int, replaced: bool) -> None:
    job_id = record.ready(1)
    first = Outcome(record.pages(job_id)[0].id, job_id, 1, 7, 1, PageState.SUCCEEDED, None, '{"text":"old"}')
    write(record, first)
    write(
        record,
        replace(first, seq=2, fence=fence, state=PageState.DEAD, code="internal", body='{"text":"new"}'),
    )
    (row,) = record.run("SELECT seq, fence, state, code, CAST(body AS text) FROM outcomes")
    new, old = (2, 8, "dead", "internal", '{"text":"new"}'), (1, 7, "succeeded", None, '{"text":"old"}')
    assert tuple(row) == (new if replaced else old)


def test_a_page_has_one_outcome_whatever_its_attempts(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    for state in (PageState.READY, PageState.READY, PageState.SUCCEEDED):
        (page,) = record.claim(worker, record.dispatch(job_id))
        record.settle(settlement(page, state, code="internal" if state == PageState.READY else None))
    (row,) = record.run("SELECT fence, attempt, seq FROM outcomes")
    assert tuple(row) == (3, 3, 1)
    assert record.scalar("SELECT count(*) FROM attempts") == 2
    record.recount()


def test_results_are_read_from_the_one_after_the_cursor(record: Record) -> None:
    job_id, _, _ = record.running(5)
    other, _, _ = record.running(1)
    for page in reversed(record.pages(job_id)):
        record.settle(settlement(page))
    record.settle(*(settlement(page) for page in record.pages(other)))
    assert [seq for seq, _ in record.lines(job_id)] == [1, 2, 3, 4, 5]
    assert [seq for seq, _ in record.lines(job_id, after=1, limit=2)] == [2, 3]
    assert [seq for seq, _ in record.lines(job_id, after=3)] == [4, 5]
    assert record.lines(job_id, after=5) == []
    keys = [json.loads(line)["key"] for _, line in record.lines(job_id)]
    assert keys == ["4.png", "3.png", "2.png", "1.png", "0.png"]


@pytest.mark.parametrize(
    "body",
    ["{}", '{"text":"a\\"b\\\\ 中文 \\u2028","regions":[],"fields":null}'],
    ids=["nothing", "text"],
)
def test_a_result_line_has_the_records_members_and_the_bodys(record: Record, body: str) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.run("UPDATE items SET custom_id = 'inv-17'")
    record.settle(settlement(page, body=body))
    ((seq, line),) = record.lines(job_id)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "seq": seq,
        "job_id": str(job_id),
        "item_id": str(page.item_id),
        "custom_id": "inv-17",
        "bucket": "in",
        "key": "0.png",
        "page": 1,
        "state": "succeeded",
        "attempt": 1,
        **json.loads(body),
    }


def test_errors_are_counted_by_code(record: Record) -> None:
    job_id, _, _ = record.running(4)
    first, second, third, _ = record.pages(job_id)
    record.settle(settlement(first, PageState.DEAD), settlement(second, PageState.DEAD))
    record.settle(settlement(third, PageState.DEAD, code="internal", body=outcomes.error_body(Internal("x"))))
    counted = record.run("SELECT code, pages FROM job_errors ORDER BY code")
    assert [tuple(row) for row in counted] == [("corrupt_file", 2), ("internal", 1)]
    record.recount()


def test_the_body_of_a_dead_letter_says_why(record: Record) -> None:
    body = outcomes.error_body(EncryptedPdf("needs a password", limit=1))
    job_id, _, _ = record.running(1)
    record.settle(settlement(record.pages(job_id)[0], PageState.DEAD, code=EncryptedPdf.code, body=body))
    ((_, line),) = record.lines(job_id)
    assert json.loads(line)["error"] == {
        "code": "encrypted_pdf",
        "retryable": False,
        "detail": "needs a password",
        "limit": 1,
    }


def test_writing_nothing_writes_nothing(record: Record) -> None:
    write(record)
    assert kept(record) == []
