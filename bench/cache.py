"""What the cache of results costs where it finds nothing, and what it saves where it does.

`python -m bench.cache [--engine null|rapidocr] [--pages N] [--rounds N]`: the same job of different JPEGs of about 200 KB
three times a round: refusing the cache, finding it empty, finding all its pages. CPU seconds are those of all our
processes: producer, worker with its sandbox, Postgres, Valkey, S3 server and supervisor.
"""

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import text

from bench import harness
from bench.whole_road import page
from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet

PREFIX = "cache/"
CASES = {"refused": "off", "miss": "on, all new", "hit": "on, all known"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One job."""

    rate: float
    cpu: float
    """Seconds a page."""
    lookup: float
    """Milliseconds a page, mean."""


def fill(running: Fleet, pages: int) -> None:
    """Every page is another."""
    settings = harness.settings_of(running)
    store = blobs.connect(settings)

    def put(number: int) -> None:
        store.put(settings.bucket, f"{PREFIX}{number:06}.jpg", page(number), "image/jpeg")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(put, range(pages)))


def run(running: Fleet, pool: Database, case: str) -> Measured:
    """Expanded first; the clock runs from the first dispatch to the last settled page."""
    bucket = harness.settings_of(running).bucket
    job = harness.submit(pool, {"type": "prefix", "bucket": bucket, "prefix": PREFIX}, paused=True)
    with pool.transaction() as session:
        if case == "refused":
            refuse = text("""UPDATE jobs SET options = '{"cache": false}' WHERE id = :job""")
            session.execute(refuse, {"job": job})
        if case == "miss":
            session.execute(text("TRUNCATE results_cache"))
    harness.wait(pool, job, lambda row: row["expanded_at"])
    pids = {"supervisor": running.supervisor or 0}
    cpu = harness.cpu_seconds(pids)
    harness.resume(pool, job)
    row = harness.finish(pool, job, harness.SLOW_POLL)
    cpu = harness.cpu_seconds(pids) - cpu
    query = """
        SELECT count(*) FILTER (WHERE body ->> 'cache' = 'hit') AS hits,
               coalesce(avg(CAST(body -> 'timings_ms' ->> 'cache' AS float)), 0) AS lookup
        FROM outcomes WHERE job_id = :job"""
    with pool.statement() as session:
        told = session.execute(text(query), {"job": job}).one()
    if told.hits != (row["total"] if case == "hit" else 0):
        msg = f"{told.hits} of {row['total']} pages were known to the job {case!r}"
        raise RuntimeError(msg)
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    return Measured(row["total"] / seconds, cpu / row["total"], told.lookup)


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("null", "rapidocr"), default="null")
    parser.add_argument("--pages", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[Measured]] = {case: [] for case in CASES}
    settings = {"engine": args.engine, "result_cache": "true"}
    with harness.fleet(("producer", "worker"), **settings) as running, harness.database(running) as pool:
        fill(running, args.pages)
        harness.ready(pool, 1)
        run(running, pool, "refused")
        for _ in range(args.rounds):
            for case in CASES:
                found[case].append(run(running, pool, case))
    rows = [
        [
            name,
            *(
                f"{statistics.median(getattr(one, member) for one in found[case]):.{digits}f}"
                for member, digits in (("rate", 1), ("cpu", 4), ("lookup", 2))
            ),
        ]
        for case, name in CASES.items()
    ]
    head = [f"{args.pages} pages, engine {args.engine}", "pages/s", "CPU-s a page", "lookup, ms"]
    print(harness.table(head, rows))


if __name__ == "__main__":
    main()
