"""Redrives against whoever else moves a job or its pages at the same moment."""

from builders import Racer, Record, scans
from dead import ALL, dead, read, redrive, step, told
from sqlalchemy import text

from ocrfleet.errors import EncryptedPdf
from ocrfleet.states import PageState
from ocrfleet.store import control, jobs, letters, redrives
from ocrfleet.store.expansion import CountedItem
from ocrfleet.store.redrives import NewRedrive
from ocrfleet.store.settle import Settlement


def test_a_redrive_waits_for_who_holds_the_job_and_looks_again(record: Record) -> None:
    job_id = dead(record, "corrupt_file", "corrupt_file")
    asked = NewRedrive(record.tenant, ALL, {})
    with record.database.transaction() as session:
        letters.discard(session, record.tenant, "k", ALL, expected=2, reason="x")
        racer = Racer(record.database, lambda s: redrives.create(s, asked, "k"))
        assert racer.waits()
    assert told(record, racer.result())[0]["pages"] == 0
    assert record.states(job_id) == ["dead", "dead"]


def test_a_redrive_that_meets_a_cancellation_brings_nothing_back(record: Record) -> None:
    job_id = read(record, record.ready(2), "corrupt_file")
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        racer = Racer(record.database, lambda s: redrives.create(s, NewRedrive(record.tenant, ALL, {}), "k"))
        assert racer.waits()
    racer.result()
    assert record.states(job_id) == ["dead", "canceled"]
    record.recount()


def test_of_two_redrives_at_once_one_brings_each_page_back(record: Record) -> None:
    job_id = dead(record, *["corrupt_file"] * 3)
    with record.database.transaction() as session:
        first = redrives.create(session, NewRedrive(record.tenant, ALL, {}), "k")
        racer = Racer(record.database, lambda s: redrives.create(s, NewRedrive(record.tenant, ALL, {}), "k"))
        assert racer.waits()
    second = racer.result()
    assert [told(record, one)[0]["pages"] for one in (first, second)] == [3, 0]
    assert record.state(job_id).generation == 2
    record.recount()


def test_redrives_of_several_jobs_and_their_settlers_do_not_deadlock(record: Record) -> None:
    """The redrive takes the jobs in the order of their ids, whatever the order of their letters."""
    low, high = sorted(read(record, record.ready(2), "corrupt_file") for _ in range(2))
    # The letters of the higher job are the older ones, and come first.
    record.run("UPDATE outcomes SET created_at = created_at - interval '1 day' WHERE job_id = :job", job=high)
    with record.database.transaction() as session:
        session.execute(text("SELECT 1 FROM jobs WHERE id = :job FOR NO KEY UPDATE"), {"job": low})
        racer = Racer(record.database, lambda s: redrives.create(s, NewRedrive(record.tenant, ALL, {}), "k"))
        assert racer.waits()
        # It waits for the lower job and holds no higher one.
        query = "SELECT 1 FROM jobs WHERE id = :job FOR NO KEY UPDATE NOWAIT"
        session.execute(text(query), {"job": high})
    assert told(record, racer.result())[0]["pages"] == 2


def test_a_late_result_of_the_time_before_is_refused(record: Record) -> None:
    job_id = dead(record, "corrupt_file")
    (page,) = record.pages(job_id)
    late = Settlement(page.id, page.fence, job_id, page.item_id, page.attempt, PageState.SUCCEEDED)
    redrive(record)
    assert record.settle(late) == set()
    record.claim(record.worker(), record.dispatch(job_id))
    assert record.settle(late) == set()
    assert record.states(job_id) == ["running"]


def test_the_speed_of_a_job_does_not_suffer_from_what_is_no_longer_done(record: Record) -> None:
    job_id = read(record, record.ready(4), "corrupt_file", "corrupt_file", None)
    record.run(
        "UPDATE jobs SET sampled_at = now() - interval '10 seconds', sampled_done = 3, throughput = NULL"
    )
    redrive(record)
    job = record.state(job_id)
    assert job.succeeded + job.dead - job.sampled_done >= 0
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 1.0)
    assert record.state(job_id).throughput >= 0


def test_the_record_adds_up_whatever_is_redriven(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, [*scans(5), *scans(2, start=5, countable=True)])
    record.count(*(CountedItem(item, error=EncryptedPdf()) for item in record.pending()))
    read(record, job_id, "corrupt_file", None, "empty_output", "empty_output", None)
    for which in ({"codes": ["encrypted_pdf"]}, {"codes": ["empty_output"]}, {"all": True}):
        redrive(record, chunk=1, **which)
        while step(record, chunk=1):
            record.recount()
        read(record, job_id, "empty_output", None)
        record.recount()
    assert record.state(job_id).generation == 3
