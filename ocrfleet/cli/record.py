"""What a `run` remembers between calls: a folder per run in the state folder, gone when its outputs are written."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from ocrfleet.api_types import ObjectRef, Result
from ocrfleet.errors import JobStateConflict


class RunFolder:
    """The files of one unfinished run; whoever holds it is the only one to work on it."""

    def __init__(self, runs: Path, run_id: str) -> None:
        self.id = run_id
        self.path = runs / run_id
        self.path.mkdir(parents=True, exist_ok=True)
        self.stdin = self.path / "stdin"
        self.results = self.path / "results.jsonl"
        self.manifest = self.path / "manifest.jsonl"
        self._job = self.path / "job"

    @property
    def job_id(self) -> str | None:
        """The job that was submitted and whose outputs are not written yet."""
        return self._job.read_text() if self._job.exists() else None

    @job_id.setter
    def job_id(self, value: str) -> None:
        _write(self._job, value.encode())

    def write_manifest(self, lines: Sequence[ObjectRef]) -> None:
        _write(self.manifest, b"".join(orjson.dumps(line) + b"\n" for line in lines))

    def names(self) -> list[str]:
        """The inputs' names, in the manifest's order."""
        with self.manifest.open("rb") as file:
            return [orjson.loads(line)["custom_id"] for line in file]

    def forget(self) -> None:
        shutil.rmtree(self.path)


class ResultsFile:
    """Results as they came, by seq; survives a kill and knows where to go on."""

    def __init__(self, path: Path) -> None:
        self.cursor: str | None = None
        whole = 0
        if path.exists():
            for line in whole_lines(path):
                whole += len(line)
                self.cursor = str(orjson.loads(line)["seq"])
            os.truncate(path, whole)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        self._file.write(orjson.dumps(result) + b"\n")
        self.cursor = str(result["seq"])


@contextmanager
def hold(state: Path, run_id: str) -> Generator[RunFolder]:
    """The run's folder, for this process alone; JobStateConflict while another has it."""
    runs = state / "runs"
    runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (runs / f"{run_id}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise JobStateConflict(
                "the same run is under way in another process; wait for it or stop it"
            ) from exc
        yield RunFolder(runs, run_id)


def identify(*parts: object) -> str:
    """The id of a run: the same for the same paths and options."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]


def whole_lines(path: Path) -> Iterator[bytes]:
    """The file's lines, without one that was cut off."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _write(path: Path, data: bytes) -> None:
    """All or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)
