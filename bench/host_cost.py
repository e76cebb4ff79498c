"""What the host itself costs: text PDFs from the S3 server through the engine `openai` to a server without a model.

`python -m bench.host_cost [--documents N] [--pages N] [--dpi N] [--rounds N]`. The server is `bench.fake_openai`: a GPU of
64 pages/s that takes no CPU of ours. CPU seconds are those of all our processes: producer, worker with its sandbox,
Postgres, Valkey, S3 server and supervisor.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import text

from bench import harness
from bench.text_pdf import document
from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings

AT_ONCE, LATENCY = 64, 1.0
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Round:
    """One job."""

    rate: float
    busy: float
    cpu: float
    """Seconds a page."""


@contextmanager
def fake_server() -> Generator[str]:
    """The base URL of a server in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "bench.fake_openai",
        "--latency",
        str(LATENCY),
        "--at-once",
        str(AT_ONCE),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            port = process.stdout.readline() if process.stdout else ""
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.terminate()


def fill(settings: Settings, prefix: str, documents: int, pages: int) -> None:
    """Every page of every document is another."""
    store = blobs.connect(settings)
    for number in range(documents):
        name = f"{prefix}{number:04}.pdf"
        store.put(settings.bucket, name, document(number * pages, pages), "application/pdf")


def run(running: Fleet, pool: Database, server: str, prefix: str) -> Round:
    """Expanded and counted first; the clock runs from the first dispatch to the last settled page."""
    bucket = harness.settings_of(running).bucket
    job = harness.submit(pool, {"type": "prefix", "bucket": bucket, "prefix": prefix}, paused=True)
    harness.wait(pool, job, lambda row: row["expanded_at"] and not _uncounted(pool))
    # All others are its children.
    pids = {"supervisor": running.supervisor or 0}
    cpu, taken = harness.cpu_seconds(pids), _place_seconds(server)
    harness.resume(pool, job)
    row = harness.finish(pool, job, harness.SLOW_POLL)
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    return Round(
        rate=row["total"] / seconds,
        busy=(_place_seconds(server) - taken) / (AT_ONCE * seconds),
        cpu=(harness.cpu_seconds(pids) - cpu) / row["total"],
    )


def _uncounted(pool: Database) -> int:
    with pool.statement() as session:
        return session.execute(text("SELECT count(*) FROM items WHERE page_count IS NULL")).scalar_one()


def _place_seconds(server: str) -> float:
    with httpx.Client(trust_env=False) as client:
        return float(client.get(f"{server}/stats").json()["place_seconds"])


def main() -> None:
    """Prints a line for each round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rounds: list[Round] = []
    with fake_server() as server:
        settings = {"engine": "openai", "openai_url": f"{server}/v1", "render_dpi": str(args.dpi)}
        with harness.fleet(("producer", "worker"), **settings) as running, harness.database(running) as pool:
            known = harness.settings_of(running)
            harness.ready(pool, 1)
            fill(known, "warm/", 4, args.pages)
            run(running, pool, server, "warm/")
            fill(known, "pages/", args.documents, args.pages)
            rounds.extend(run(running, pool, server, "pages/") for _ in range(args.rounds))
    rows = [[n, *_cells(one)] for n, one in enumerate(rounds, 1)]
    median = Round(
        *(statistics.median(getattr(one, name) for one in rounds) for name in ("rate", "busy", "cpu"))
    )
    head = [f"{args.documents * args.pages} pages at {args.dpi} dpi", "pages/s", "GPU busy", "CPU-s a page"]
    print(harness.table(head, [*rows, ["median", *_cells(median)]]))


def _cells(one: Round) -> list[str]:
    return [f"{one.rate:.1f}", f"{one.busy:.0%}", f"{one.cpu:.4f}"]


if __name__ == "__main__":
    main()
