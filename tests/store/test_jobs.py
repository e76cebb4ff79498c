"""Jobs: what a tenant reads of them, and how they complete."""

from uuid import UUID, uuid4

import pytest
from builders import Racer, Record, scans, settlement
from sqlalchemy import text

from ocrfleet.errors import NotFound
from ocrfleet.states import JobState, Lane, PageState
from ocrfleet.store import control, dispatch, jobs, settle, tenants
from ocrfleet.store.jobs import NewJob


def read(record: Record, job_id: UUID, tenant: UUID | None = None) -> dict[str, object]:
    with record.database.transaction() as session:
        found = jobs.get(session, tenant or record.tenant, job_id)
    assert found is not None
    return dict(found)


def test_stored_counts_leave_what_is_outstanding(record: Record) -> None:
    job_id, worker = record.ready(10), record.worker()
    record.dispatch(job_id, limit=2)
    running = record.claim(worker, record.dispatch(job_id, limit=4))
    record.settle(settlement(running[0]), settlement(running[1], PageState.DEAD), settlement(running[2]))
    job = read(record, job_id)
    states = ("outstanding", "succeeded", "dead", "canceled")
    assert [job[state] for state in states] == [7, 2, 1, 0]
    assert job["total"] == 10
    with record.database.statement() as session:
        assert dispatch.in_flight(session) == {job_id: (2, 1)}
    assert (job["errors"], job["state"]) == ({"corrupt_file": 1}, "running")


def test_inline_objects_are_told_by_their_number(record: Record) -> None:
    job_id = record.job(input={"type": "objects", "objects": [{"key": "a"}, {"key": "b"}]})
    assert read(record, job_id)["input"] == {"type": "objects", "count": 2}


def test_a_job_of_one_page_is_expanded_from_the_start(record: Record) -> None:
    job_id = uuid4()
    with record.database.transaction() as session:
        job = NewJob(job_id, record.tenant, "text", {"type": "object"}, lane=Lane.INTERACTIVE)
        jobs.create_single(session, job, bucket="ocr", key="interactive/1", etag="e")
        assert jobs.ended(session, [job_id]) == set()
    (page,) = record.claim(record.worker(), record.dispatch(job_id))
    assert (page.bucket, page.key, page.etag, page.page_count) == ("ocr", "interactive/1", "e", 1)
    record.settle(settlement(page))
    assert record.state(job_id).state == "completed"
    with record.database.transaction() as session:
        assert jobs.ended(session, [job_id, uuid4()]) == {job_id}
    record.recount()


@pytest.mark.parametrize(("dead", "outcome"), [(0, "succeeded"), (1, "partial"), (3, "failed")])
def test_a_job_completes_with_its_last_page_and_says_how(record: Record, dead: int, outcome: str) -> None:
    job_id, _, _ = record.running(3)
    states = [PageState.DEAD] * dead + [PageState.SUCCEEDED] * (3 - dead)
    *first, last = [settlement(*pair) for pair in zip(record.pages(job_id), states, strict=True)]
    record.settle(*first)
    assert (record.state(job_id).state, record.state(job_id).outcome) == ("running", None)
    record.settle(last)
    job = record.state(job_id)
    assert (job.state, job.outcome) == ("completed", outcome)
    assert job.finished_at is not None
    record.recount()


def test_a_job_does_not_complete_while_its_input_is_still_read(record: Record) -> None:
    job_id, worker = record.job(), record.worker()
    record.expand(job_id, scans(1), listed=False)
    record.settle(*(settlement(page) for page in record.claim(worker, record.dispatch(job_id))))
    assert record.state(job_id).finished_at is None
    record.expand(job_id, [])
    assert record.state(job_id).state == "completed"


def test_a_job_completes_exactly_once_when_its_last_pages_settle_at_once(record: Record) -> None:
    job_id, _, _ = record.running(2)
    first, second = (settlement(page) for page in record.pages(job_id))
    with record.database.transaction() as session:
        settle.settle(session, [first])
        racer = Racer(record.database, lambda s: settle.settle(s, [second]))
        assert racer.waits()
        state = session.execute(text("SELECT state FROM jobs")).scalar()
        assert state == "running"
    racer.result()
    assert record.state(job_id).state == "completed"
    record.recount()


def test_another_tenant_sees_nothing(record: Record) -> None:
    job_id = record.ready(1)
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    with record.database.transaction() as session:
        assert jobs.get(session, other, job_id) is None
        assert jobs.listing(session, other, limit=10) == []
        with pytest.raises(NotFound):
            control.cancel(session, other, job_id)
    assert record.state(job_id).state == "queued"
    assert read(record, job_id)["total"] == 1


def test_jobs_are_listed_newest_first_by_pages_states_and_labels(record: Record) -> None:
    made = [record.job(labels={"n": str(n), "kind": "scan"}) for n in range(3)]
    record.job(lane=Lane.INTERACTIVE)
    record.cancel(made[0])
    with record.database.transaction() as session:
        first = jobs.listing(session, record.tenant, limit=2)
        before = (first[-1]["created_at"], first[-1]["id"])
        rest = jobs.listing(session, record.tenant, limit=2, before=before)
        canceled = jobs.listing(session, record.tenant, limit=9, state=JobState.CANCELED)
        labeled = jobs.listing(session, record.tenant, limit=9, labels={"kind": "scan", "n": "1"})
    assert [row["id"] for row in (*first, *rest)] == made[::-1]
    assert [row["id"] for row in canceled] == made[:1]
    assert [row["id"] for row in labeled] == made[1:2]


def test_throughput_is_sampled_from_what_was_done_since(record: Record) -> None:
    job_id, _, _ = record.running(4)
    record.settle(*(settlement(page) for page in record.pages(job_id)[:2]))
    record.run("UPDATE jobs SET started_at = now() - interval '10 s'")
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 20.0)
    assert record.state(job_id).throughput is None
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 3.0)
    assert record.state(job_id).throughput == pytest.approx(0.2, rel=0.3)
    record.run("UPDATE jobs SET sampled_at = now() - interval '10 s'")
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 3.0)
    assert record.state(job_id).throughput == pytest.approx(0.12, rel=0.3)
