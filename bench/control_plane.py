"""Bench (a): pages through dispatch, Celery, claim and settle, no fetch and no engine, beside the plain design.

`python -m bench.control_plane [--pages N] [--rounds N]`. The pages are expanded before the clock starts.
"""

import argparse
import statistics

from bench import harness, plain_celery
from ocrfleet.embedded.fleet import Fleet

CONCURRENCIES = (2, 4, 8)
MANIFEST = {"type": "manifest", "bucket": "ocr", "key": "manifest.jsonl"}


def ours(running: Fleet, pages: int) -> tuple[float, float]:
    """Pages per second, and CPU seconds per 1,000 pages over all processes, servers included."""
    with harness.database(running) as pool:
        harness.ready(pool, 1)
        job = harness.submit(pool, MANIFEST, paused=True)
        harness.wait(pool, job, lambda row: row["expanded_at"])
        before = harness.cpu_seconds(running.pids)
        harness.resume(pool, job)
        row = harness.finish(pool, job)
        spent = harness.cpu_seconds(running.pids) - before
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    return pages / seconds, 1000 * spent / pages


def main() -> None:
    """Both designs in turn on the same servers; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--plain-pages", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rates: list[float] = []
    cpu: list[float] = []
    plain: dict[int, list[float]] = {concurrency: [] for concurrency in CONCURRENCIES}
    settings = {"null_reads_pixels": "false", "store_url": f"null://?objects={args.pages}"}
    for _ in range(args.rounds):
        with harness.fleet(("producer", "worker"), **settings) as running:
            rate, spent = ours(running, args.pages)
            rates.append(rate)
            cpu.append(spent)
        with harness.fleet((), **settings) as running:
            for concurrency, measured in plain.items():
                urls = running.urls
                measured.append(
                    plain_celery.measure(urls["postgres"], urls["valkey"], args.plain_pages, concurrency)
                )
    best, median = max(((c, statistics.median(m)) for c, m in plain.items()), key=lambda pair: pair[1])
    mine = statistics.median(rates)
    rows: list[list[object]] = [
        [
            "OCR Fleet (1 worker, 8 slots)",
            f"{args.pages:,}",
            f"{mine:,.0f}",
            f"{statistics.median(cpu):.3f}",
            "",
        ],
        *(
            [f"plain Celery (prefork {c})", f"{args.plain_pages:,}", f"{statistics.median(m):,.0f}", "", ""]
            for c, m in plain.items()
        ),
        [f"ratio to the best plain (prefork {best})", "", "", "", f"{mine / median:.1f}"],
    ]
    print(harness.table(["control plane", "pages", "pages/s", "CPU-s per 1,000 pages", "ratio"], rows))


if __name__ == "__main__":
    main()
