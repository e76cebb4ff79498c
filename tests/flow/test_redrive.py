"""Dead letters with real processes: found, mended and run again from the command line, at a rate, with their history."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from fake_broker import FakeBroker
from fleet_builders import check_record, job, results, sql, tenant_id, wait_for
from images import encoded, noise
from sqlalchemy import Row

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings, child_environment
from ocrfleet.store import jobs, redrives
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from producer.sweep import Sweeper

SAMPLES = Path(__file__).parents[2] / "samples"
PATIENCE = 120.0
PASSWORD = "ocrfleet"  # noqa: S105 (of a sample)
TORN, GOOD, EMPTY, RATE = 500, 60, 5, 250


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    services = ("api", "producer", "worker")
    with Fleet(tmp_path_factory.mktemp("fleet"), engine="null", services=services) as fleet:
        yield fleet


def dlq(fleet: Fleet, *arguments: str) -> Any:  # noqa: ANN401
    """What the command prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "ocrfleet.cli", "dlq", *arguments, "--json"],
        env=child_environment(**fleet.environment), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.lstrip().startswith("{") else done.stdout


def submit(record: Database, bucket: Blobs, keys: Sequence[str]) -> UUID:
    """A job of a manifest with these keys."""
    job_id = uuid4()
    lines = b"".join(orjson.dumps({"key": key, "custom_id": f"{n}"}) + b"\n" for n, key in enumerate(keys))
    bucket.put("ocr", f"{job_id}.jsonl", lines, "application/x-ndjson")
    given = {"type": "manifest", "bucket": "ocr", "key": f"{job_id}.jsonl"}
    with record.transaction() as session:
        jobs.create(session, jobs.NewJob(job_id, tenant_id(session), "text", given))
    return job_id


def ended(record: Database, job_id: UUID) -> Row[Any]:
    wait_for(lambda: job(record, job_id).finished_at, PATIENCE)
    check_record(record, job_id)
    return job(record, job_id)


def rows(record: Database, job_id: UUID, *codes: str | None) -> Sequence[Row[Any]]:
    """Pages of the job, with their outcomes, that ended with one of the codes; None stands for success."""
    query = """
        SELECT p.id, p.fence, p.attempt, p.state, p.since, p.not_before, p.redrive_id, o.seq, o.created_at, o.fence AS of
        FROM pages p JOIN outcomes o ON o.page_id = p.id
        WHERE p.job_id = :job AND coalesce(o.code, '') = ANY(:codes) ORDER BY p.id"""
    return sql(record, query, job=job_id, codes=[code or "" for code in codes])


def history(record: Database, job_id: UUID) -> Mapping[int, Sequence[Row[Any]]]:
    query = "SELECT a.* FROM attempts a JOIN pages p ON p.id = a.page_id WHERE p.job_id = :job ORDER BY a.page_id, a.fence"
    found: dict[int, list[Row[Any]]] = {}
    for row in sql(record, query, job=job_id):
        found.setdefault(row.page_id, []).append(row)
    return found


def test_of_a_job_with_500_dead_pages_only_those_asked_for_run_again_at_the_rate_asked_for(
    fleet: Fleet, record: Database, bucket: Blobs
) -> None:
    good = encoded(noise(1))
    for key, data in {"torn.png": good[:200], "good.png": good, "empty.png": b""}.items():
        bucket.put("ocr", key, data, "image/png")
    keys = ["torn.png"] * TORN + ["good.png"] * GOOD + ["empty.png"] * EMPTY
    job_id = submit(record, bucket, keys)
    first = ended(record, job_id)
    assert (first.succeeded, first.dead, first.generation) == (GOOD, TORN + EMPTY, 1)
    torn, others = rows(record, job_id, "corrupt_file"), rows(record, job_id, None, "empty_file")
    before = history(record, job_id)
    meant = ["--job", f"{job_id}", "--code", "corrupt_file", "--rate", f"{RATE}"]
    plan = dlq(fleet, "redrive", *meant, "--dry-run")
    assert (plan["pages"], plan["seconds"]) == (TORN, TORN / RATE)
    assert rows(record, job_id, "corrupt_file") == torn
    # What they were read from is mended.
    bucket.put("ocr", "torn.png", good, "image/png")
    made = dlq(fleet, "redrive", *meant)
    assert made["pages"] == TORN
    second = ended(record, job_id)
    assert (second.succeeded, second.dead, second.generation) == (GOOD + TORN, EMPTY, 2)
    # Only those ran again: the rows of all others are as they were.
    ids = {page.id for page in torn}
    ended_now = rows(record, job_id, None, "empty_file")
    assert [page for page in ended_now if page.id not in ids] == others
    again = [page for page in ended_now if page.id in ids]
    check_rate(again)
    # With their history: one fence on, one attempt more, and what was written of the first is there.
    assert {(page.fence, page.attempt, f"{page.redrive_id}") for page in again} == {(2, 2, made["id"])}
    assert history(record, job_id) == before
    assert dlq(fleet, "redrives", made["id"])["progress"]["succeeded"] == TORN
    one = dlq(fleet, "show", f"{torn[0].id}")
    assert (one["state"], [attempt["code"] for attempt in one["attempts"]]) == ("succeeded", ["corrupt_file"])
    # One result of each page, and none of the first time among them.
    lines = results(record, job_id)
    assert len({line["item_id"] for line in lines}) == len(lines) == second.total


def check_rate(pages: Sequence[Row[Any]]) -> None:
    """None began before its time, and the times are as far apart as the rate asks for."""
    due = sorted(page.not_before for page in pages)
    assert len(due) == TORN
    assert all((later - earlier).total_seconds() >= 0.99 / RATE for earlier, later in pairwise(due))
    assert (due[-1] - due[0]).total_seconds() == pytest.approx((TORN - 1) / RATE, abs=0.01)
    assert all(page.created_at >= page.not_before for page in pages)


def test_locked_documents_are_read_with_their_password_and_what_is_left_is_given_up(
    fleet: Fleet, record: Database, bucket: Blobs
) -> None:
    bucket.put("ocr", "blank.png", b"", "image/png")
    bucket.put("ocr", "locked.pdf", (SAMPLES / "encrypted.pdf").read_bytes(), "application/pdf")
    job_id = submit(record, bucket, ["locked.pdf", "blank.png", "locked.pdf"])
    assert ended(record, job_id).dead == 3
    locked = rows(record, job_id, "encrypted_pdf")
    for n, password in enumerate(("wrong", PASSWORD), 2):
        dlq(
            fleet,
            "redrive",
            "--job",
            f"{job_id}",
            "--code",
            "encrypted_pdf",
            "--option",
            f"password={password}",
        )
        assert ended(record, job_id).generation == n
    assert rows(record, job_id, "encrypted_pdf") == []
    kept = history(record, job_id)
    assert [[attempt.code for attempt in kept[page.id]] for page in locked] == [["encrypted_pdf"] * 2] * 2
    lines = [line for line in results(record, job_id) if line["key"] == "locked.pdf"]
    assert [line["state"] for line in lines] == ["succeeded"] * 2
    given_up = dlq(fleet, "discard", "--job", f"{job_id}", "--expect", "1", "--reason", "blank sheet")
    assert given_up == {"discarded": 1}
    assert dlq(fleet, "ls", "--job", f"{job_id}") == ""
    acts = sql(record, "SELECT act FROM audit WHERE subject = :subject ORDER BY id", subject=f"job:{job_id}")
    assert [act.act for act in acts] == ["redrive", "redrive", "discard"]


def test_the_leader_brings_back_what_a_request_could_not_in_one_go(
    fleet: Fleet, record: Database, bucket: Blobs
) -> None:
    bucket.put("ocr", "rest.png", b"torn", "image/png")
    job_id = submit(record, bucket, ["rest.png"] * 9)
    ended(record, job_id)
    with record.transaction() as session:
        asked = NewRedrive(tenant_id(session), LetterFilter(job_id=job_id), {})
        redrive_id = redrives.create(session, asked, "a-key", chunk=2)
    assert dlq(fleet, "redrives", f"{redrive_id}")["pages"] >= 2
    wait_for(lambda: dlq(fleet, "redrives", f"{redrive_id}")["finished_at"], PATIENCE)
    assert dlq(fleet, "redrives", f"{redrive_id}")["pages"] == 9
    assert ended(record, job_id).dead == 9
    assert [len(attempts) for attempts in history(record, job_id).values()] == [2] * 9


def test_every_tick_of_the_sweeper_is_a_step_of_a_redrive(database: Database) -> None:
    sweeper = Sweeper(Settings(), FakeBroker(), database.transaction)
    with database.transaction() as session:
        asked = NewRedrive(tenant_id(session), LetterFilter(all=True), {})
        redrives.create(session, asked, "a-key", chunk=0)
    for _ in range(2):
        sql(database, "UPDATE redrives SET finished_at = NULL")
        sweeper.tick()
        (redrive,) = sql(database, "SELECT finished_at FROM redrives")
        assert redrive.finished_at
