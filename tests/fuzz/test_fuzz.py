"""The short form of `python -m tests.fuzz`: a few requests of each kind to every operation."""

import subprocess
import tempfile
from pathlib import Path

from fuzzing import command, fleet


def test_no_answer_is_a_failure_or_outside_the_document() -> None:
    with tempfile.TemporaryDirectory(prefix="ocrfleet-fuzz-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with fleet(Path(folder)) as running:
            for phases, examples in ((("examples", "fuzzing"), 1), (("stateful",), 10)):
                argv = command(running, Path(folder), examples=examples, phases=phases)
                found = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
                assert found.returncode == 0, found.stdout + found.stderr
