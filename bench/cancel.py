"""Cancelling a job of 100,000 pages that runs: `python -m bench.cancel [--pages N] [--rounds N] [--workers N]`.

Over HTTP, on a fleet with the null engine whose pages take longer than the cancellation may. Prints when the API
answered, when the last page was claimed and the last one ran, and when the job was `canceled`, from the request on.
Times of claims come from a trigger in the database, on the same clock as ours.
"""

import argparse
import statistics
import time
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text

from bench import harness
from ocrfleet.client import Client
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet

MANIFEST = {"type": "manifest", "bucket": "ocr", "key": "manifest.jsonl"}
LATENCY = 10.0
"""Seconds a page takes if it is left alone."""
IN_FLIGHT = 64
_WATCH = """
CREATE TABLE bench_moves (job_id uuid, state text, at timestamptz);
CREATE FUNCTION bench_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO bench_moves VALUES (NEW.job_id, OLD.state || ' ' || NEW.state, clock_timestamp()); RETURN NULL;
END $$;
CREATE TRIGGER bench_moves AFTER UPDATE OF state ON pages FOR EACH ROW
    WHEN (NEW.state = 'running' OR OLD.state = 'running') EXECUTE FUNCTION bench_move()"""
_TIMES = """
SELECT max(at) FILTER (WHERE state = 'dispatched running') AS claimed,
       max(at) FILTER (WHERE state LIKE 'running %') AS ended,
       count(*) FILTER (WHERE state = 'dispatched running') AS claims,
       count(*) FILTER (WHERE state = 'running canceled') AS aborted
FROM bench_moves WHERE job_id = :job"""
_RUNNING = "SELECT count(*) FROM pages WHERE job_id = :job AND state = 'running'"


def one(pool: Database, client: Client, pages: int, running: int) -> dict[str, float]:
    """Milliseconds from the request to each moment; of the last claim from the answer, negative before it."""
    job = harness.submit(pool, MANIFEST, paused=True)
    harness.wait(pool, job, lambda row: row["expanded_at"])
    client.resume_job(str(job))
    while _running(pool, job) < running:
        time.sleep(harness.POLL)
    asked = datetime.now(UTC)
    client.cancel_job(str(job))
    answered = datetime.now(UTC)
    row = harness.wait(pool, job, lambda row: row["finished_at"])
    with pool.statement() as session:
        times = session.execute(text(_TIMES), {"job": job}).one()
    if row["state"] != "canceled" or row["total"] != pages or row["succeeded"] + row["canceled"] != pages:
        raise SystemExit(f"the record is wrong: {dict(row)}")
    return {
        "answer": 1000 * (answered - asked).total_seconds(),
        "last claim after the answer": 1000 * (times.claimed - answered).total_seconds(),
        "last page ran": 1000 * (times.ended - asked).total_seconds(),
        "job canceled": 1000 * (row["finished_at"] - asked).total_seconds(),
        "pages aborted": times.aborted,
    }


def _running(pool: Database, job: UUID) -> int:
    with pool.statement() as session:
        return session.execute(text(_RUNNING), {"job": job}).scalar_one()


def measure(running: Fleet, pages: int, rounds: int, workers: int) -> list[dict[str, float]]:
    """As many jobs, one after the other."""
    environment = running.environment
    with (
        harness.database(running) as pool,
        Client(environment["OCRFLEET_URL"], environment["OCRFLEET_API_KEY"]) as client,
    ):
        harness.ready(pool, workers)
        with pool.transaction() as session:
            session.connection().exec_driver_sql(_WATCH)
        return [one(pool, client, pages, workers * IN_FLIGHT) for _ in range(rounds)]


def main() -> None:
    """Prints the table: the median and the worst of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    settings = {
        "null_reads_pixels": "false",
        "null_latency": str(LATENCY),
        "null_in_flight": str(IN_FLIGHT),
        "store_url": f"null://?objects={args.pages}",
    }
    services = ("api", "producer", *(f"worker-{n}" for n in range(args.workers)))
    with harness.fleet(services, **settings) as running:
        found = measure(running, args.pages, args.rounds, args.workers)
    rows: list[list[object]] = [
        [name, f"{statistics.median(values):,.0f}", f"{max(values):,.0f}"]
        for name in found[0]
        for values in [[one[name] for one in found]]
    ]
    head = [f"cancel of {args.pages:,} pages, {args.workers} workers; ms from the request", "median", "worst"]
    print(harness.table(head, rows))


if __name__ == "__main__":
    main()
