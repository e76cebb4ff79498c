"""Bench (c): a manifest of a million lines through the API, with the null object store and the null engine.

`python -m bench.manifest [--lines N]`: API answer time, expansion rate, p99 of 1,000 status polls while it runs, and
the peak memory of each process and of the broker, beside those of a job of a tenth of the size on a fresh fleet.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import redis

from bench import harness
from ocrfleet import db
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.store import tenants

SERVICES = ("api", "producer", "worker")
PAGES_PER_SECOND = 8000
"""About what the null engine does here."""
VACUUMED = 20.0
"""Seconds: autovacuum's naptime and a little more."""
MEGABYTE = 1024 * 1024


@dataclass(slots=True)
class Measured:
    """One job."""

    lines: int
    answer_ms: float = 0.0
    expanded_per_second: float = 0.0
    pages_per_second: float = 0.0
    polls_ms: list[float] = field(default_factory=list[float])
    peaks: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes by process; Postgres without its shared buffers, which fill up to their setting in any job."""


def private_bytes(pid: int) -> int:
    """Resident memory that is the process's own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise FileNotFoundError(pid)


def watch(pids: dict[str, int], url: str, stop: Event, result: "Queue[dict[str, int]]") -> None:
    """Sample the memory of every process four times a second, from a nice process: it must not delay the polls."""
    os.nice(19)
    broker = redis.Redis.from_url(url)
    peaks: dict[str, int] = {}
    tick = 0
    family: list[tuple[str, int]] = []
    while not stop.wait(0.25):
        if tick % 8 == 0:
            family = [(name, one) for name, pid in pids.items() for one in _family(pid)]
        tick += 1
        for name, pid in family:
            try:
                label = name if pid == pids[name] else _label(name, pid)
                # Of several of a kind, the largest stands for all.
                peaks[label] = max(peaks.get(label, 0), private_bytes(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue
        info = broker.info("memory")
        used = int(info["used_memory"])  # pyright: ignore[reportIndexIssue, reportArgumentType]
        peaks["valkey: data"] = max(peaks.get("valkey: data", 0), used)
    broker.close()
    result.put(peaks)


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _label(name: str, pid: int) -> str:
    """What a child is; Postgres tells in its title, and those of connections begin with the role's name."""
    if name != "postgres":
        return f"{name}: child"
    title = Path(f"/proc/{pid}/cmdline").read_text().strip("\0 ").removeprefix("postgres: ")
    role = (
        "connection" if title.startswith(("ocrfleet ", "postgres ")) else title.split(" ocrfleet")[0].strip()
    )
    return f"postgres: {role}"


def run(lines: int, polls: int) -> Measured:
    """One job on a fleet of its own."""
    settings = {"null_reads_pixels": "false", "store_url": f"null://?objects={lines}"}
    measured = Measured(lines)
    with harness.fleet(SERVICES, **settings) as running, harness.database(running) as pool:
        harness.ready(pool, 1)
        key = _key(pool)
        context = multiprocessing.get_context("spawn")
        stop, result = context.Event(), context.Queue()
        watcher = context.Process(target=watch, args=(running.pids, running.urls["valkey"], stop, result))
        watcher.start()
        with httpx.Client(base_url=running.urls["api"], headers={"Authorization": f"Bearer {key}"}) as api:
            _warm(api, pool)
            _job(api, pool, measured, polls)
        _checkpoint(running)
        # So that Postgres cleans up after the small job too, and its peak is in both columns.
        time.sleep(VACUUMED)
        stop.set()
        measured.peaks = result.get()
        watcher.join()
    return measured


def _key(pool: db.Database) -> str:
    with pool.transaction() as session:
        return tenants.create_key(session, name="bench")


def _warm(api: httpx.Client, pool: db.Database) -> None:
    """Every statement once: what their first use takes is no matter of a job's size."""
    objects = [{"key": f"{number}.jpg"} for number in range(1000)]
    body = {"input": {"type": "objects", "objects": objects}, "task": "text"}
    harness.finish(pool, api.post("/v1/jobs", json=body).raise_for_status().json()["id"])


def _checkpoint(running: Fleet) -> None:
    """After the job, so that both columns have one: the small job ends before Postgres would begin it."""
    secret = running.state.secret("postgres_admin")
    url = urlsplit(running.urls["postgres"])
    address = f"postgresql://postgres:{secret}@{url.hostname}:{url.port}/ocrfleet"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("CHECKPOINT")


def _job(api: httpx.Client, pool: db.Database, measured: Measured, polls: int) -> None:
    api.get("/v1/jobs").raise_for_status()
    body = {"input": {"type": "manifest", "bucket": "ocr", "key": "manifest.jsonl"}, "task": "text"}
    begin = time.perf_counter()
    answer = api.post("/v1/jobs", json=body).raise_for_status()
    measured.answer_ms = 1000 * (time.perf_counter() - begin)
    job = answer.json()["id"]
    while True:
        begin = time.perf_counter()
        status = api.get(f"/v1/jobs/{job}").raise_for_status().json()
        if len(measured.polls_ms) < polls:
            measured.polls_ms.append(1000 * (time.perf_counter() - begin))
        if sum(v for k, v in status["counts"].items() if k != "total") != status["counts"]["total"]:
            msg = f"the counts do not sum: {status['counts']}"
            raise RuntimeError(msg)
        if status["finished_at"]:
            break
        # So that the polls are spread over the whole of the job.
        time.sleep(max(0.05, measured.lines / PAGES_PER_SECOND / polls))
    row = harness.finish(pool, job)
    expanding = (row["expanded_at"] - row["created_at"]).total_seconds()
    measured.expanded_per_second = measured.lines / expanding
    measured.pages_per_second = measured.lines / (row["finished_at"] - row["created_at"]).total_seconds()


def main() -> None:
    """A tenth first, then the whole; prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--polls", type=int, default=1000)
    args = parser.parse_args()
    small, large = run(args.lines // 10, args.polls), run(args.lines, args.polls)
    head = ["manifest", f"{small.lines:,} lines", f"{large.lines:,} lines"]
    rows: list[list[object]] = [
        ["API answer", f"{small.answer_ms:.0f} ms", f"{large.answer_ms:.0f} ms"],
        ["expanded, lines/s", f"{small.expanded_per_second:,.0f}", f"{large.expanded_per_second:,.0f}"],
        ["pages/s, submission to end", f"{small.pages_per_second:,.0f}", f"{large.pages_per_second:,.0f}"],
        [f"status p99 of {len(large.polls_ms)} polls", _p99(small), _p99(large)],
    ]
    print(harness.table(head, rows) + "\n")
    memory: list[list[object]] = []
    for name, size in sorted(large.peaks.items()):
        before = small.peaks.get(name, 0)
        ratio = f"{size / before:.2f}" if before else "not seen in the small job"
        memory.append([name, f"{before / MEGABYTE:.1f} MB", f"{size / MEGABYTE:.1f} MB", ratio])
    print(harness.table(["peak memory", *head[1:], "ratio"], memory))


def _p99(measured: Measured) -> str:
    return f"{statistics.quantiles(measured.polls_ms, n=100)[98]:.1f} ms"


if __name__ == "__main__":
    main()
