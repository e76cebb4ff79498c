"""Pages per second of the whole fleet with the engine `vllm`, and of raw AsyncLLM on the same pages in the same run.

`python -m bench.engine CHECKPOINT [--pages N] [--output-tokens N] [--sequences N] [--sweep]`, in the environment of
`make test-vllm` or on a machine with a GPU. CHECKPOINT is a folder that `python -m bench.checkpoint` made: speed needs
no weights, so `--load-format dummy` gives random ones to the published configuration. Every page writes exactly
`--output-tokens`. Raw: all pages are rendered, scaled and in memory, and given at once, at the nice value of a worker. Fleet: PNGs from the S3 server,
results in Postgres, from the first dispatched page to the last settled one. Both stand all the while, on half of a
GPU's memory each, and take turns, since a machine's speed changes within minutes; the ratio is the median of the rounds'.
"""

import argparse
import asyncio
import io
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench import harness
from ocrfleet import blobs, catalogue
from ocrfleet.catalogue import Parameters
from ocrfleet.embedded.fleet import NICE
from ocrfleet.settings import Settings

LINES = 46
READY_POLL = 0.5


@dataclass(slots=True)
class Round:
    """One measurement over all pages."""

    seconds: float
    tokens: int = 0
    megapixels: float = 0.0
    idle: list[bool] = field(default_factory=list[bool])
    """Whether the GPU was, at each sample; empty without one."""
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One that stands ready, warm."""

    turn: Callable[[], Round]
    """Read all pages once."""
    cpu_seconds: Callable[[], float]


def page(number: int, width: int, height: int) -> bytes:
    """A page of text as a PNG, none like another."""
    image = Image.new("L", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(8, height // 70))
    for line in range(LINES):
        words = " ".join(f"{(number * 7919 + line * 104_729 + n * 31) % 99_991}" for n in range(9))
        draw.text((width // 12, height // 24 + line * height // 50), words, "black", font)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@contextmanager
def raw(settings: dict[str, str], pages: Sequence[bytes]) -> Generator[Contender]:
    """AsyncLLM with everything at hand, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_raw, args=(settings, pages, theirs))
    process.start()
    theirs.close()

    def turn() -> Round:
        ours.send("go")
        return ours.recv()

    try:
        turn()  # what comes first is slower
        yield Contender(turn, lambda: harness.cpu_seconds({"raw": process.pid or 0}))
    finally:
        ours.close()
        process.join()


def _raw(settings: dict[str, str], pages: Sequence[bytes], asked: Connection) -> None:
    # Here, since only this process may load them.
    from worker.engines.vllm_core import Core  # noqa: PLC0415
    from worker.engines.vllm_pages import prepare  # noqa: PLC0415

    os.nice(NICE["worker"])
    core: Any = Core(Settings.model_validate(settings))
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in pages]
    images = [prepare(one, core.geometry, None) for one in pixels]
    prompt = core.prompt(catalogue.TASKS["text"].prompt_zh)
    sampling = core.sampling(Parameters(), most_repeats=None, schema=None)

    async def read(number: int, turn: int) -> int:
        name = f"{turn}-{number}"
        outputs = [one async for one in core.generate(name, prompt, images[number], sampling, 1)]
        return core.generated(outputs).output_tokens

    async def turns() -> None:
        turn = 0
        while await asyncio.to_thread(_wanted, asked):
            turn += 1
            with _gpu() as idle:
                begin = time.perf_counter()
                tokens = await asyncio.gather(*(read(number, turn) for number in range(len(images))))
                seconds = time.perf_counter() - begin
            megapixels = sum(one.width * one.height for one in images) / 1e6
            asked.send(Round(seconds, sum(tokens), megapixels, idle))

    asyncio.run(turns())
    core.shutdown()


def _wanted(asked: Connection) -> bool:
    try:
        return bool(asked.recv())
    except EOFError:
        return False


@contextmanager
def fleet(settings: dict[str, str], pages: Sequence[bytes]) -> Generator[Contender]:
    """The whole system around the same engine; no page comes from the cache of results."""
    members = settings | {"result_cache": "false"}
    with harness.fleet(("producer", "worker"), **members) as running, harness.database(running) as pool:
        known = harness.settings_of(running)
        store = blobs.connect(known)
        for number, data in enumerate(pages):
            store.put(known.bucket, f"pages/{number:06}.png", data, "image/png")
        harness.ready(pool, 1, READY_POLL)

        def turn() -> Round:
            given = {"type": "prefix", "bucket": known.bucket, "prefix": "pages/"}
            job = harness.submit(pool, given, paused=True)
            harness.wait(pool, job, lambda row: row["expanded_at"])
            with _gpu() as idle:
                harness.resume(pool, job)
                row = harness.finish(pool, job, harness.SLOW_POLL)
            return Round((row["finished_at"] - row["started_at"]).total_seconds(), idle=idle)

        turn()
        yield Contender(turn, lambda: harness.cpu_seconds(running.pids))


@contextmanager
def _gpu() -> Generator[list[bool]]:
    """Samples of whether the first GPU does nothing, five a second; none where there is no GPU."""
    samples: list[bool] = []
    done = threading.Event()
    try:
        import pynvml  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

        nvml: Any = pynvml
    except ImportError:
        yield samples
        return
    try:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError:  # no driver or no device
        yield samples
        return

    def sample() -> None:
        while not done.wait(0.2):
            samples.append(nvml.nvmlDeviceGetUtilizationRates(device).gpu == 0)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def compare(settings: dict[str, str], pages: Sequence[bytes], rounds: int) -> list[list[object]]:
    """The rows of the table: both stand all the while and take turns, in turned order."""
    measured: dict[str, list[Round]] = {"raw": [], "fleet": []}
    idles: list[float] = []
    with raw(settings, pages) as one, fleet(settings, pages) as other:
        contenders = {"raw": one, "fleet": other}
        for number in range(rounds):
            order = list(contenders.items())
            for name, contender in order if number % 2 == 0 else reversed(order):
                before = {each: contenders[each].cpu_seconds() for each in contenders}
                found = contender.turn()
                found.cpu_seconds = contender.cpu_seconds() - before[name]
                measured[name].append(found)
                if name == "raw":
                    idles.append((other.cpu_seconds() - before["fleet"]) / found.seconds)
    ratios = [a.seconds / b.seconds for a, b in zip(*measured.values(), strict=True)]
    first = measured["raw"][0]
    return [
        *([name, *_row(found, len(pages))] for name, found in measured.items()),
        ["fleet of raw, median", f"{statistics.median(ratios):.3f}", "", ""],
        ["fleet of raw, each round", ", ".join(f"{ratio:.2f}" for ratio in ratios), "", ""],
        ["cores that the fleet takes in raw's turns", f"{statistics.median(idles):.3f}", "", ""],
        ["output tokens a page", f"{first.tokens / len(pages):.0f}", "", ""],
        ["megapixels a page", f"{first.megapixels / len(pages):.2f}", "", ""],
    ]


def _row(found: list[Round], pages: int) -> list[object]:
    rate = statistics.median(pages / one.seconds for one in found)
    idle = [sample for one in found for sample in one.idle]
    cpu = statistics.median(one.cpu_seconds / pages for one in found)
    return [f"{rate:.2f} pages/s", f"{cpu:.2f}", f"{sum(idle) / len(idle):.1%}" if idle else "not measured"]


def sweep(settings: dict[str, str], pages: Sequence[bytes], sequences: list[int]) -> list[list[object]]:
    """The fleet alone over sequences, pixel caps and decode processes, one changed at a time."""
    cap = int(settings["max_pixels"])
    cases = [
        *({"max_sequences": str(n)} for n in sequences),
        *({"max_pixels": str(round(cap * share))} for share in (0.25, 0.5)),
        *({"decode_processes": str(n)} for n in (1, 4)),
    ]
    rows: list[list[object]] = []
    for case in cases:
        with fleet(settings | case, pages) as standing:
            rate = len(pages) / standing.turn().seconds
        rows.append([", ".join(f"{name} {value}" for name, value in case.items()), f"{rate:.2f} pages/s"])
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--width", type=int, default=1240)
    parser.add_argument("--height", type=int, default=1754)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--max-pixels", type=int, default=3_400_000)
    parser.add_argument("--max-model-len", type=int, default=16_384)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--device", default="cpu:1")
    parser.add_argument("--gpu-memory", type=float, default=0.45, help="share of it for each of the two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweep", action="store_true")
    args = parser.parse_args()
    settings = {
        "engine": "vllm",
        "device": args.device,
        "model": args.checkpoint,
        "model_dtype": args.dtype,
        "load_format": args.load_format,
        "max_sequences": str(args.sequences),
        "max_pixels": str(args.max_pixels),
        "max_model_len": str(args.max_model_len),
        "gpu_memory_utilization": str(args.gpu_memory),
        "fixed_output_tokens": str(args.output_tokens),
        "self_test": "false",
    }
    pages = [page(number, args.width, args.height) for number in range(args.pages)]
    print(
        harness.table(
            [f"{args.pages} pages", "rate", "CPU-s a page", "GPU idle"], compare(settings, pages, args.rounds)
        )
    )
    if args.sweep:
        sequences = sorted({max(1, args.sequences // 4), args.sequences // 2 or 1, args.sequences * 2})
        print("\n" + harness.table(["fleet with", "rate"], sweep(settings, pages, sequences)))


if __name__ == "__main__":
    main()
