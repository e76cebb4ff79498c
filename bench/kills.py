"""kill -9 of each part of `ocrfleet up` in the middle of a job with the null engine: `python -m bench.kills [--pages N]`.

Prints for each victim how long no further page settled, and fails unless every page ended once: succeeded, with one
outcome of the fence on its row, and counters that equal a recount.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import text

from bench import harness
from ocrfleet import db
from ocrfleet.cli.connect import servers
from ocrfleet.db import Database
from ocrfleet.embedded.state import State
from ocrfleet.settings import Settings, child_environment

RECOUNT = """
SELECT j.total, j.succeeded, j.dead, j.state,
       (SELECT count(*) FROM pages p WHERE p.job_id = j.id) AS pages,
       (SELECT count(*) FROM pages p WHERE p.job_id = j.id AND p.state = 'succeeded') AS ended,
       (SELECT count(*) FROM outcomes o JOIN pages p ON p.id = o.page_id AND p.fence = o.fence
        WHERE o.job_id = j.id) AS outcomes,
       (SELECT count(DISTINCT seq) FROM outcomes o WHERE o.job_id = j.id) AS seqs,
       (SELECT max(seq) FROM outcomes o WHERE o.job_id = j.id) AS last_seq
FROM jobs j WHERE j.id = :job
"""


def _pid(state: State, name: str) -> int:
    return int(json.loads(state.status.read_text())["processes"][name]["pid"])


def _kill(state: State, name: str) -> None:
    os.kill(_pid(state, name), signal.SIGKILL)


def _kill_valkey(state: State, url: str) -> None:
    """Kill it, wait for its successor, and empty that too."""
    before = _pid(state, "valkey")
    os.kill(before, signal.SIGKILL)
    broker = redis.Redis.from_url(url)
    while True:
        time.sleep(0.05)
        try:
            if _pid(state, "valkey") != before and broker.ping():
                broker.flushall()
                broker.close()
                return
        except redis.RedisError:
            continue


def one(pool: Database, pages: int, kill: Callable[[], None]) -> tuple[float, float]:
    """Run a job, kill in its middle; returns the longest pause after the kill and the whole duration in seconds."""
    given = {"type": "manifest", "bucket": "ocr", "key": "manifest.jsonl"}
    job = harness.submit(pool, given, paused=False)
    begin = time.monotonic()
    harness.wait(pool, job, lambda row: row["succeeded"] >= pages // 3)
    kill()
    last, since, longest = -1, time.monotonic(), 0.0
    while True:
        row = harness.wait(pool, job, lambda _: True)
        if row["succeeded"] != last:
            longest = max(longest, time.monotonic() - since) if last >= 0 else 0.0
            last, since = row["succeeded"], time.monotonic()
        if row["finished_at"]:
            break
        time.sleep(0.02)
    check(pool, job, pages)
    return longest, time.monotonic() - begin


def check(pool: Database, job: UUID, pages: int) -> None:
    """Every page once, and the counters true."""
    with pool.transaction() as session:
        row = session.execute(text(RECOUNT), {"job": job}).mappings().one()
    counted = {
        name: row[name] for name in ("total", "succeeded", "pages", "ended", "outcomes", "seqs", "last_seq")
    }
    if set(counted.values()) != {pages} or row["dead"] or row["state"] != "completed":
        raise SystemExit(f"the record is wrong: {dict(row)}")


def main() -> None:
    """One job a victim; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=20_000)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="ocrfleet-kills-"))
    root.chmod(0o755)
    environment = child_environment(
        OCRFLEET_STATE=str(root),
        OCRFLEET_ENGINE="null",
        OCRFLEET_NULL_READS_PIXELS="false",
        OCRFLEET_NULL_LATENCY="0.05",
        OCRFLEET_STORE_URL=f"null://?objects={args.pages}",
    )
    up = subprocess.Popen(
        [sys.executable, "-m", "ocrfleet.cli", "up"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        print(harness.table(["killed", "longest pause", "job"], _rows(root, args.pages)))
    finally:
        up.send_signal(signal.SIGINT)
        up.wait()
        shutil.rmtree(root, ignore_errors=True)


def _rows(root: Path, pages: int) -> list[list[object]]:
    state = State(root)
    while not (state.status.exists() and "api" in json.loads(state.status.read_text())["processes"]):
        time.sleep(0.2)
        state = State(root)
    known = servers(Settings(state=root))
    pool = db.Database(known.database_url, application="kills", pool_size=2)
    harness.ready(pool, 1)
    victims: dict[str, Callable[[], Any]] = {
        name: lambda name=name: _kill(state, name) for name in ("worker", "producer", "api")
    }
    victims["valkey, then FLUSHALL"] = lambda: _kill_valkey(state, known.broker_url)
    rows: list[list[object]] = []
    for name, kill in victims.items():
        pause, whole = one(pool, pages, kill)
        rows.append([name, f"{pause:.1f} s", f"{pages:,} pages in {whole:.1f} s"])
        print(f"{name}: {pause:.1f} s", file=sys.stderr)
    pool.close()
    return rows


if __name__ == "__main__":
    main()
