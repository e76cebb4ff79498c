"""`make bench`: every bench after the other, with its own defaults; the output is what docs/benchmarks.md keeps.

`python -m bench [--labelled FOLDER]`: the folder holds `receipts/`, `chinese/` and `pdf/` with ground truth, for the
benches of the CPU engine and of accuracy; without it these two are left out.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from bench.accuracy import wanted
from ocrfleet.settings import child_environment

SAMPLE = Path(__file__).parents[1] / "samples" / "invoice-en.jpg"


def main() -> None:
    """Each bench is a process of its own, so that none leaves memory or connections to the next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labelled", type=Path)
    args = parser.parse_args()
    memory = psutil.virtual_memory().total // 1024**3
    print(f"{psutil.cpu_count()} cores, {memory} GB, Python {platform.python_version()}\n")
    benches = [
        ["bench.control_plane"],
        ["bench.whole_road"],
        ["bench.manifest"],
        ["bench.interactive", str(SAMPLE)],
        ["bench.cache"],
        ["bench.cancel"],
        ["bench.kills"],
        ["bench.host_cost"],
    ]
    if args.labelled:
        benches.append(["bench.cpu_engine", str(args.labelled / "receipts")])
    for module, *arguments in benches:
        _run(module, *arguments)
    if args.labelled:
        _accuracy([args.labelled / name for name in ("receipts", "chinese", "pdf")])


def _run(module: str, *arguments: str) -> None:
    print(f"### {module}\n", flush=True)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)
    print(flush=True)


def _accuracy(folders: list[Path]) -> None:
    """What the fleet itself reads: `ocrfleet run` over the labelled files, then the scores of its results."""
    files = [str(path) for folder in folders for path in wanted(folder)]
    with tempfile.TemporaryDirectory() as folder:
        out, device = Path(folder) / "out", f"cpu:{psutil.cpu_count()}"
        environment = child_environment(OCRFLEET_STATE=f"{folder}/state")
        command = [sys.executable, "-m", "ocrfleet.cli", "run", *files, "--out", str(out), "--device", device]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        _run("bench.accuracy", *map(str, folders), "--results", str(out / "results.jsonl"))


if __name__ == "__main__":
    main()
