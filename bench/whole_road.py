"""Bench (b): JPEG objects of about 200 KB from the S3 server through fetch and decode, with the null engine.

`python -m bench.whole_road [--objects N] [--rounds N]`, beside a bare loop of processes that get and decode.
"""

import argparse
import io
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier

import numpy as np
from PIL import Image, ImageDraw

from bench import harness
from ocrfleet import blobs
from ocrfleet.documents import Limits
from ocrfleet.images import decode_image
from ocrfleet.settings import Settings

BUCKET, PREFIX = "ocr", "bench/"
WIDTH, HEIGHT = 1240, 1754
"""A4 at 150 dpi."""


def page(seed: int) -> bytes:
    """A page of print with a scanner's noise, as JPEG of about 200 KB."""
    chance = np.random.default_rng(seed)
    image = Image.new("L", (WIDTH, HEIGHT), 250)
    draw = ImageDraw.Draw(image)
    for y in range(60, HEIGHT - 60, 22):
        words = " ".join("".join(chr(97 + c) for c in chance.integers(0, 26, 7)) for _ in range(18))
        draw.text((60, y), words, fill=20)
    grey = np.asarray(image, np.int16) + chance.normal(0, 3, (HEIGHT, WIDTH)).astype(np.int16)
    buffer = io.BytesIO()
    scanned = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    scanned.save(buffer, "JPEG", quality=30)
    return buffer.getvalue()


def fill(settings: Settings, objects: int) -> int:
    """Put the objects (50 different ones); returns their mean size in bytes."""
    store = blobs.connect(settings)
    store.ensure_bucket(BUCKET)
    pages = [page(seed) for seed in range(min(50, objects))]

    def put(number: int) -> None:
        store.put(BUCKET, f"{PREFIX}{number:06}.jpg", pages[number % len(pages)], "image/jpeg")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(objects)))
    return sum(len(data) for data in pages) // len(pages)


def _loop(settings: Settings, keys: list[str], ready: Barrier) -> None:
    store, limits = blobs.connect(settings), Limits.of(settings)
    store.fetch(BUCKET, keys[0], max_bytes=settings.max_object_bytes)
    ready.wait()
    for key in keys:
        decode_image(store.fetch(BUCKET, key, max_bytes=settings.max_object_bytes).data, 0, limits)


def bare(settings: Settings, objects: int, processes: int) -> float:
    """Objects per second that processes get and decode which do nothing else."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    keys = [f"{PREFIX}{n:06}.jpg" for n in range(objects)]
    running = [
        context.Process(target=_loop, args=(settings, keys[n::processes], ready)) for n in range(processes)
    ]
    for process in running:
        process.start()
    ready.wait()
    begin = time.monotonic()
    for process in running:
        process.join()
    return objects / (time.monotonic() - begin)


def main() -> None:
    """The fleet and the bare loop in turn, on one S3 server; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    ours: list[float] = []
    loop: list[float] = []
    workers = [f"worker-{n}" for n in range(args.processes)]
    with harness.fleet(("producer", *workers)) as running, harness.database(running) as pool:
        settings = harness.settings_of(running)
        size = fill(settings, args.objects)
        harness.ready(pool, args.processes)
        for _ in range(args.rounds):
            job = harness.submit(pool, {"type": "prefix", "bucket": BUCKET, "prefix": PREFIX}, paused=True)
            harness.wait(pool, job, lambda row: row["expanded_at"])
            harness.resume(pool, job)
            row = harness.finish(pool, job)
            ours.append(args.objects / (row["finished_at"] - row["started_at"]).total_seconds())
            loop.append(bare(settings, args.objects, args.processes))
    fleet_rate, bare_rate = statistics.median(ours), statistics.median(loop)
    rows: list[list[object]] = [
        [f"bare get and decode, {args.processes} processes", f"{bare_rate:,.1f}", ""],
        [
            f"OCR Fleet, {args.processes} workers, null engine",
            f"{fleet_rate:,.1f}",
            f"{fleet_rate / bare_rate:.2f}",
        ],
    ]
    print(harness.table([f"{args.objects:,} JPEGs of {size // 1000} KB", "pages/s", "ratio"], rows))


if __name__ == "__main__":
    main()
