"""Pages per second of a bare RapidOCR loop and of our engine: `python -m bench.cpu_engine FOLDER [--pages N]`.

Both use as many processes, the same settings and the same files, decode included and the start of the processes left
out. They take turns, and the table gives the medians. CPU seconds are those of all processes, their start included.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rapidocr import RapidOCR

from bench import harness
from bench.engine_pages import page_files, recognise_files
from ocrfleet import blobs
from worker.engines.rapidocr_process import NICE
from worker.engines.rapidocr_reader import PARAMS

_bare: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement over all pages."""

    seconds: float
    cpu_seconds: float


def _start_bare(ready: Barrier) -> None:
    os.nice(NICE)
    cv2.setNumThreads(1)
    _bare["ocr"] = RapidOCR(params=PARAMS)
    # Its models are loaded by the first page with text.
    page = np.full((200, 400, 3), 255, np.uint8)
    _bare["ocr"](cv2.putText(page, "warm", (40, 120), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 3))
    ready.wait()


def _read_bare(path: Path) -> int:
    return len(_bare["ocr"](cv2.imread(str(path))).txts or ())


def bare(paths: list[Path], processes: int) -> float:
    """Seconds that a loop takes which has nothing around it."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    with context.Pool(processes, _start_bare, (ready,)) as pool:
        ready.wait()
        begin = time.perf_counter()
        for _ in pool.imap_unordered(_read_bare, paths):
            pass
        seconds = time.perf_counter() - begin
        pool.close()
        pool.join()
    return seconds


def engine(paths: list[Path], processes: int) -> float:
    """Seconds that our engine takes, without the services."""
    return recognise_files(paths, processes).seconds


def whole_fleet(paths: list[Path], processes: int) -> float:
    """Seconds that the whole system takes, from the first dispatched page to the last settled one."""
    settings = {"engine": "rapidocr", "device": f"cpu:{processes}"}
    with harness.fleet(("producer", "worker"), **settings) as running, harness.database(running) as pool:
        known = harness.settings_of(running)
        store = blobs.connect(known)
        harness.ready(pool, 1)
        for prefix, files in (("warm/", paths[:processes]), ("pages/", paths)):
            for number, path in enumerate(files):
                store.put(known.bucket, f"{prefix}{number}-{path.name}", path, "application/octet-stream")
            given = {"type": "prefix", "bucket": known.bucket, "prefix": prefix}
            job = harness.submit(pool, given, paused=True)
            harness.wait(pool, job, lambda row: row["expanded_at"])
            harness.resume(pool, job)
            row = harness.finish(pool, job, harness.SLOW_POLL)
    return (row["finished_at"] - row["started_at"]).total_seconds()


CONTENDERS: dict[str, Callable[[list[Path], int], float]] = {
    "bare loop": bare,
    "engine": engine,
    "fleet": whole_fleet,
}


def measure(paths: list[Path], processes: int, rounds: int) -> dict[str, list[Round]]:
    """Every contender once a round, in turned order, so that what else the machine does falls on all of them."""
    measured: dict[str, list[Round]] = {name: [] for name in CONTENDERS}
    for number in range(rounds):
        order = list(CONTENDERS.items())
        for name, run in order if number % 2 == 0 else reversed(order):
            before = _cpu_seconds()
            seconds = run(paths, processes)
            measured[name].append(Round(seconds, _cpu_seconds() - before))
    return measured


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def report(measured: dict[str, list[Round]], pages: int) -> None:
    """A Markdown table; the ratio is the median of those of the rounds."""
    print("| | pages/s | CPU-s a page | of the bare loop |\n|---|---:|---:|---:|")
    base = measured["bare loop"]
    for name, rounds in measured.items():
        rate = statistics.median(pages / item.seconds for item in rounds)
        cpu = statistics.median(item.cpu_seconds / pages for item in rounds)
        ratio = statistics.median(of.seconds / item.seconds for of, item in zip(base, rounds, strict=True))
        print(f"| {name} | {rate:.2f} | {cpu:.2f} | {ratio:.3f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, help="only the first so many files")
    parser.add_argument(
        "--repeat", type=int, default=2, help="each file so many times, so that ends weigh less"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    paths = [path for path in page_files(args.folder) if path.suffix != ".pdf"][: args.pages]
    paths *= args.repeat
    report(measure(paths, args.processes, args.rounds), len(paths))


if __name__ == "__main__":
    main()
