"""The invariants of the chaos suite find a breach of each rule, and none in a record that is right."""

import pytest
from builders import Record, settlement
from sqlalchemy import text

from ocrfleet.states import PageState
from tests.chaos import witness
from tests.chaos.invariants import ALWAYS, AT_REST, breaches


def found(record: Record, *, at_rest: bool = False) -> set[str]:
    with record.database.transaction() as session:
        return {
            breach.partition(":")[0] for breach in breaches(session, at_rest=at_rest, heartbeat_timeout=60.0)
        }


@pytest.fixture
def ended(record: Record) -> Record:
    """A job that is complete, of three pages; one of them is dead."""
    job_id, worker, _ = record.running(3)
    one, two, three = record.pages(job_id)
    record.settle(settlement(one), settlement(two, PageState.DEAD), settlement(three))
    record.beat(worker)
    return record


def test_a_record_that_is_right_has_none(ended: Record) -> None:
    assert found(ended, at_rest=True) == set()


def test_work_that_goes_on_is_none_but_no_rest(ended: Record) -> None:
    _, worker, batch = ended.running(2)
    ended.beat(worker, batch.id)
    assert found(ended) == set()
    rest = {"every job has ended", "no page waits, and none is leased", "no worker holds a batch"}
    assert found(ended, at_rest=True) == rest


BROKEN = {
    "a page that succeeded or is dead has one outcome, of its fence; no other page has any": (
        "UPDATE pages SET fence = fence + 1 WHERE state = 'succeeded'",
        "UPDATE outcomes SET state = 'dead', code = 'corrupt_file'",
        "DELETE FROM outcomes WHERE state = 'dead'",
        "INSERT INTO outcomes (page_id, job_id, seq, fence, attempt, state, body) "
        "SELECT 0, id, 9, 1, 1, 'succeeded', '{}' FROM jobs",
    ),
    "a job's counters equal a recount": (
        "UPDATE jobs SET succeeded = 1, dead = 2",
        "UPDATE jobs SET total = 4",
        "DELETE FROM pages WHERE state = 'dead'",
    ),
    "a job's items equal a recount, and those it counts are pending": (
        "UPDATE jobs SET items_pending = 1",
        "UPDATE items SET state = 'pending'",
        "DELETE FROM items",
    ),
    "a job's errors by code equal a recount of its dead pages": (
        "UPDATE job_errors SET pages = 2",
        "UPDATE job_errors SET code = 'empty_file'",
        "DELETE FROM job_errors",
        "DELETE FROM outcomes WHERE state = 'dead'",
    ),
    "no result is numbered beyond the job's last, or twice": ("UPDATE jobs SET result_seq = 2",),
    "a page is of the job of its item, and stands in it once": (
        "UPDATE pages SET item_id = -id",
        "UPDATE items SET job_id = gen_random_uuid()",
    ),
    "a job has ended when all of its pages have, and not before": (
        "UPDATE jobs SET state = 'running', finished_at = NULL, outcome = NULL",
        "UPDATE jobs SET expanded_at = NULL",
    ),
    "only a page that ended two workers alone is poison": (
        "UPDATE outcomes SET code = 'poison_page' WHERE state = 'dead'",
    ),
    "every job has ended": ("UPDATE jobs SET state = 'running', finished_at = NULL, outcome = NULL",),
    "no page waits, and none is leased": ("UPDATE pages SET state = 'ready' WHERE state = 'dead'",),
    "no worker holds a batch": ("UPDATE workers SET batches = '{7}'",),
    "no redrive goes on": (
        "INSERT INTO redrives (tenant_id, filter) SELECT id, '{}' FROM tenants WHERE name = 'default'",
    ),
    "no purged job is left": ("UPDATE jobs SET purged_at = now()",),
}


@pytest.mark.parametrize(
    ("rule", "deed"),
    [(rule, deed) for rule, deeds in BROKEN.items() for deed in deeds],
    ids=lambda value: value,
)
def test_a_breach_is_found(ended: Record, rule: str, deed: str) -> None:
    ended.run(deed)
    assert rule in found(ended, at_rest=True)


def test_an_open_transaction_is_found(ended: Record) -> None:
    with ended.database.transaction() as session:
        session.execute(text("SELECT 1"))
        session.execute(text("SELECT pg_sleep(1.1)"))
        assert found(ended, at_rest=True) == {"no transaction is open"}


def test_every_rule_is_tried() -> None:
    assert {*BROKEN, "no transaction is open"} == {*ALWAYS, *AT_REST}


def test_witnesses_see_a_job_that_ends_twice_and_a_page_that_changes_its_end(record: Record) -> None:
    with record.database.transaction() as session:
        witness.install(session)
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.settle(settlement(page))
    again = "UPDATE jobs SET state = 'running', finished_at = NULL, outcome = NULL"
    ends = "UPDATE jobs SET state = 'completed', finished_at = now(), outcome = 'succeeded'"
    with record.database.transaction() as session:
        assert witness.breaches(session) == []
    record.run(again)
    record.run(ends)
    record.run("UPDATE pages SET state = 'dead'")
    with record.database.transaction() as session:
        seen = {breach.partition(":")[0] for breach in witness.breaches(session)}
    assert seen == {
        "a job ends once in each generation",
        "a page that has ended comes back by a redrive alone",
    }
