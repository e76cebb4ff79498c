"""POST /v1/ocr while a bulk job saturates the CPU engine: `python -m bench.interactive IMAGE [--requests N]`.

The image is asked for alone first, then again and again while a bulk job of the same image keeps the worker busy.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import httpx

from bench import harness
from ocrfleet import blobs
from ocrfleet.store import tenants


def ask(api: httpx.Client, image: bytes) -> tuple[float, dict[str, Any]]:
    """Seconds of one synchronous request, and its result line."""
    begin = time.perf_counter()
    answer = api.post("/v1/ocr", files={"file": image}, data={"task": "text"}, timeout=120).raise_for_status()
    return time.perf_counter() - begin, answer.json()


def main() -> None:
    """Idle, then saturated; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=15)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    image = args.image.read_bytes()
    with (
        harness.fleet(
            ("api", "producer", "worker"), engine="rapidocr", device=f"cpu:{args.processes}"
        ) as running,
        harness.database(running) as pool,
    ):
        settings = harness.settings_of(running)
        store = blobs.connect(settings)
        harness.ready(pool, 1)
        with pool.transaction() as session:
            key = tenants.create_key(session, name="bench")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=running.urls["api"], headers=headers) as api:
            ask(api, image)
            idle = [ask(api, image)[0] for _ in range(args.requests)]
            for n in range(args.requests * 30):
                store.put(settings.bucket, f"bench/{n:05}", image, "application/octet-stream")
            job = harness.submit(
                pool, {"type": "prefix", "bucket": settings.bucket, "prefix": "bench/"}, paused=False
            )
            harness.wait(pool, job, lambda row: row["succeeded"] >= 2 * args.processes)
            busy = [ask(api, image) for _ in range(args.requests)]
            row = harness.wait(pool, job, lambda _: True)
    if row["finished_at"]:
        raise SystemExit("the bulk job ended before the last request: nothing was saturated")
    page = statistics.median(line["timings_ms"]["infer"] for _, line in busy) / 1000
    alone, beside = statistics.median(idle), statistics.median(seconds for seconds, _ in busy)
    rows: list[list[object]] = [
        ["alone, median", f"{alone:.2f} s"],
        ["beside a bulk job, median", f"{beside:.2f} s"],
        ["one page in the engine beside a bulk job, median", f"{page:.2f} s"],
        ["limit: 2 x alone + one page", f"{2 * alone + page:.2f} s"],
    ]
    print(harness.table([f"POST /v1/ocr, {args.requests} requests", ""], rows))


if __name__ == "__main__":
    main()
