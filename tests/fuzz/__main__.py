"""`python -m tests.fuzz --cases 5000 [--seed 1]`: schemathesis against every operation of a running fleet.

Prints what schemathesis found; ends with 1 on an answer of 5xx, or one that the OpenAPI document does not know.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from ocrfleet.embedded.fleet import Fleet
from tests.fuzz.fuzzing import command, fleet, operations

ALONE = ("examples", "coverage", "fuzzing")
SEQUENCE = 500
"""About the requests of one run of the phase `stateful`."""


def main() -> int:
    """Start a fleet, and send it about so many requests."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--cases", type=int, default=5000, help="about so many requests; those of `coverage` come on top"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocrfleet-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with fleet(Path(folder)) as running:
            examples = max(1, given.cases // operations(running))
            codes = [_run(running, Path(folder), examples, given.seed, ALONE)]
            # One run of sequences ends where a repeated one takes another turn, as it may while others are at work.
            seeds = range(given.seed, given.seed + max(1, given.cases // SEQUENCE))
            codes += [_run(running, Path(folder), examples, seed, ("stateful",)) for seed in seeds]
            return max(codes)


def _run(running: Fleet, folder: Path, examples: int, seed: int, phases: tuple[str, ...]) -> int:
    argv = command(running, folder, examples=examples, phases=phases, seed=seed)
    return subprocess.run(argv, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
