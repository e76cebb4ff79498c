"""Redrives: dead pages run again under their ids, at a rate, with other options; all else is left alone."""

from itertools import pairwise

import pytest
from builders import Record
from dead import dead, discard, read, redrive, step, told
from sqlalchemy import text

from ocrfleet.store import redrives, tenants

KEPT = ("id", "item_id", "number", "fence", "attempt", "losses")


def test_dead_pages_are_ready_again_with_their_ids_and_their_history(record: Record) -> None:
    job_id = dead(record, "corrupt_file", None, "output_invalid")
    record.run("UPDATE pages SET losses = 1, failures = 3 WHERE state = 'dead'")
    before = record.pages(job_id)
    redrive_id = redrive(record, codes=["corrupt_file"])
    back, good, other = record.pages(job_id)
    assert [getattr(back, name) for name in KEPT] == [getattr(before[0], name) for name in KEPT]
    assert (back.state, back.failures, back.redrive_id) == ("ready", 0, redrive_id)
    assert [good, other] == before[1:], "what the filter does not meet is untouched"
    assert [page for _, page in outcome_pages(record)] == [good.id, other.id]
    assert record.scalar("SELECT count(*) FROM attempts WHERE page_id = :page", page=back.id) == 1
    record.recount()


def outcome_pages(record: Record) -> list[tuple[int, int]]:
    return [(row.seq, row.page_id) for row in record.run("SELECT seq, page_id FROM outcomes ORDER BY seq")]


def test_a_job_that_had_ended_goes_on_under_its_next_generation_and_completes_again(record: Record) -> None:
    job_id = dead(record, "corrupt_file", None, "output_invalid")
    ended = record.state(job_id)
    assert (ended.state, ended.outcome, ended.generation) == ("completed", "partial", 1)
    redrive(record)
    job = record.state(job_id)
    assert (job.state, job.outcome, job.finished_at, job.generation) == ("running", None, None, 2)
    assert (job.dead, job.succeeded, job.total) == (0, 1, 3)
    assert errors(record) == {"corrupt_file": 0, "output_invalid": 0}
    read(record, job_id, None, "corrupt_file")
    job = record.state(job_id)
    assert (job.state, job.outcome, job.generation, job.dead, job.succeeded) == (
        "completed",
        "partial",
        2,
        1,
        2,
    )
    assert errors(record) == {"corrupt_file": 1, "output_invalid": 0}
    # Its results go on where they had ended: who has read up to there misses nothing.
    assert len(record.lines(job_id, after=3)) == 2
    record.recount()


def errors(record: Record) -> dict[str, int]:
    return {row.code: row.pages for row in record.run("SELECT code, pages FROM job_errors")}


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_job_that_goes_on_keeps_its_state_and_its_generation(record: Record, state: str) -> None:
    job_id = read(record, record.ready(3), "corrupt_file", None)
    record.run("UPDATE jobs SET state = :state", state=state)
    redrive(record)
    job = record.state(job_id)
    assert (job.state, job.generation, job.dead, job.outcome) == (state, 1, 0, None)
    record.recount()


def test_pages_are_spread_by_the_rate_over_all_chunks(record: Record) -> None:
    first, second = dead(record, *["corrupt_file"] * 4), dead(record, *["corrupt_file"] * 3)
    redrive_id = redrive(record, rate=10.0, chunk=3)
    while step(record, chunk=3):
        pass
    made = told(record, redrive_id)[0]["created_at"]
    pages = record.pages(first) + record.pages(second)
    due = sorted((page.not_before - made).total_seconds() for page in pages)
    assert due[:3] == pytest.approx([0.0, 0.1, 0.2], abs=0.001)
    # A later chunk begins where the one before ended, or later: never two pages within a tenth of a second.
    assert all(later - earlier > 0.099 for earlier, later in pairwise(due))
    assert {page.redrive_id for page in pages} == {redrive_id}


def test_a_chunk_that_comes_late_keeps_to_the_rate_too(record: Record) -> None:
    dead(record, *["corrupt_file"] * 6)
    redrive(record, rate=10.0, chunk=2)
    record.run("UPDATE redrives SET next_at = now() - interval '1 hour'")
    assert (step(record, 2), step(record, 2)) == (2, 2)
    waits = record.run("SELECT extract(epoch FROM not_before - now()) AS due FROM pages ORDER BY id")
    due = [float(row.due) for row in waits[2:]]
    assert all(later - earlier > 0.099 for earlier, later in pairwise(due))


def test_without_a_rate_all_may_run_at_once(record: Record) -> None:
    job_id = dead(record, *["corrupt_file"] * 5)
    redrive(record)
    assert record.dispatch(job_id).pages == [(page.id, 2) for page in record.pages(job_id)]


def test_a_redrive_goes_on_chunk_by_chunk_until_nothing_is_left(record: Record) -> None:
    job_id = dead(record, *["corrupt_file"] * 5)
    redrive_id = redrive(record, chunk=2)
    row, left = told(record, redrive_id)
    assert (row["pages"], row["finished_at"], row["ready"], row["dead"], left.pages) == (2, None, 2, 0, 3)
    assert step(record, 2) == 2
    assert step(record, 2) == 1
    row, left = told(record, redrive_id)
    assert (row["pages"], row["ready"], left.pages) == (5, 5, 0)
    assert row["finished_at"] is not None
    assert step(record, 2) == 0
    assert record.state(job_id).generation == 2
    record.recount()


def test_what_dies_again_waits_for_the_next_redrive(record: Record) -> None:
    job_id = dead(record, *["corrupt_file"] * 4)
    first = redrive(record, chunk=2)
    read(record, job_id, "corrupt_file", None)
    assert step(record, 4) == 2
    row, left = told(record, first)
    assert [row[name] for name in ("pages", "ready", "succeeded", "dead")] == [4, 2, 1, 1]
    assert row["finished_at"] is not None
    assert left.pages == 0
    second = redrive(record)
    assert [told(record, one)[0]["ready"] for one in (first, second)] == [2, 1]


def test_a_filter_that_nobody_knows_any_more_ends_its_redrive_and_no_other(record: Record) -> None:
    dead(record, *["corrupt_file"] * 3)
    old, new = redrive(record, chunk=1), redrive(record, chunk=1)
    with record.database.transaction() as session:
        session.execute(
            text('UPDATE redrives SET filter = \'{"moon": ["full"]}\' WHERE id = :old'), {"old": old}
        )
    assert [step(record, 5), step(record, 5)] == [0, 1]
    row, left = told(record, old)
    assert (row["pages"], row["reason"], left.pages) == (
        1,
        "mended; ended: this release does not know its filter",
        0,
    )
    assert row["finished_at"] is not None
    assert told(record, new)[0]["pages"] == 2


def test_the_oldest_redrive_goes_first_and_one_that_another_leader_holds_is_skipped(record: Record) -> None:
    dead(record, *["corrupt_file"] * 3)
    dead(record, *["empty_output"] * 3)
    old, new = (
        redrive(record, codes=["corrupt_file"], chunk=1),
        redrive(record, codes=["empty_output"], chunk=1),
    )
    with record.database.transaction() as session:
        assert redrives.step(session, 1) == 1
        assert step(record, 1) == 1
    assert [told(record, one)[0]["pages"] for one in (old, new)] == [2, 2]
    step(record, 5)
    assert [told(record, one)[0]["pages"] for one in (old, new)] == [3, 2]


@pytest.mark.parametrize("state", ["canceled", "failed", "canceling"])
def test_jobs_that_were_given_up_are_left_out_and_counted(record: Record, state: str) -> None:
    given_up, other = dead(record, "corrupt_file", "corrupt_file"), dead(record, "corrupt_file")
    give_up = """
        UPDATE jobs SET state = :state, finished_at = CASE WHEN :state <> 'canceling' THEN now() END WHERE id = :job"""
    record.run(give_up, state=state, job=given_up)
    row, left = told(record, redrive(record))
    assert (row["pages"], dict(left.left_out), left.pages) == (1, {state: 2}, 0)
    assert row["finished_at"] is not None
    assert record.states(given_up) == ["dead", "dead"]
    assert record.states(other) == ["ready"]


def test_a_deleted_job_is_left_alone(record: Record) -> None:
    job_id = dead(record, "corrupt_file")
    record.run("UPDATE jobs SET purged_at = now()")
    assert told(record, redrive(record))[0]["pages"] == 0
    assert (record.states(job_id), record.state(job_id).state) == (["dead"], "completed")


def test_a_deadline_of_the_generation_before_does_not_end_the_next(record: Record) -> None:
    job_id = dead(record, "corrupt_file")
    record.run("UPDATE jobs SET deadline = now() - interval '1 minute'")
    redrive(record)
    assert record.state(job_id).deadline is None
    (page,) = record.claim(record.worker(), record.dispatch(job_id))
    assert page.id == record.pages(job_id)[0].id


def test_a_job_that_is_about_to_be_canceled_for_its_deadline_is_left_out(record: Record) -> None:
    job_id = read(record, record.ready(2), "corrupt_file")
    record.run("UPDATE jobs SET deadline = now() - interval '1 second'")
    row, left = told(record, redrive(record))
    assert (row["pages"], dict(left.left_out)) == (0, {"deadline_exceeded": 1})
    assert record.states(job_id)[0] == "dead"


def test_discarded_pages_are_left_alone(record: Record) -> None:
    job_id = dead(record, "corrupt_file", "empty_output")
    discard(record, 1, codes=["corrupt_file"])
    redrive(record)
    assert record.states(job_id) == ["dead", "ready"]
    record.recount()


def test_another_tenants_letters_are_left_alone(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    theirs, ours = dead(record, "corrupt_file", tenant=other), dead(record, "corrupt_file")
    redrive_id = redrive(record)
    assert (record.states(theirs), record.states(ours)) == (["dead"], ["ready"])
    with record.database.transaction() as session:
        assert redrives.get(session, other, redrive_id) is None
        assert list(redrives.listing(session, other, limit=9)) == []


def test_a_poison_page_that_is_redriven_has_to_be_proven_anew_and_runs_alone(record: Record) -> None:
    job_id = record.ready(1)

    def lose() -> str:
        worker = record.worker()
        (page,) = record.claim(worker, record.dispatch(job_id))
        assert page.proofs == (proofs if page.losses >= 2 else 0)
        record.silence(worker)
        record.sweep()
        return record.states(job_id)[0]

    proofs = 0
    assert [lose(), lose(), lose()] == ["ready"] * 3
    proofs = 1
    assert lose() == "dead"
    redrive(record)
    proofs = 0
    assert record.pages(job_id)[0].losses == 4, "it runs alone"
    assert lose() == "ready"
    proofs = 1
    assert lose() == "dead"
    assert [row.code for row in record.run("SELECT code FROM attempts ORDER BY fence")] == [
        *["worker_lost"] * 3, "poison_page", "worker_lost", "poison_page",
    ]  # fmt: skip
