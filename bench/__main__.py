"""`make bench`: every bench after the other, with its own defaults; the output is what docs/benchmarks.md keeps.

`python -m bench [--labelled FOLDER]`: the folder holds `receipts/`, `chinese/` and `pdf/` with ground truth, for the
benches of the CPU engine and of accuracy; without it these two are left out.
"""

import argparse
import platform
import subprocess
import sys
from pathlib import Path

import psutil

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
        ["bench.kills"],
    ]
    if args.labelled:
        folder: Path = args.labelled
        receipts, chinese, turned = (str(folder / name) for name in ("receipts", "chinese", "pdf"))
        benches.append(["bench.cpu_engine", receipts])
        benches.append(["bench.accuracy", receipts, chinese, turned])
    for module, *arguments in benches:
        print(f"### {module}\n", flush=True)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)
        print(flush=True)


if __name__ == "__main__":
    main()
