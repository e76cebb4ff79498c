"""Local files to a fleet that is reached by its API alone: several uploads at a time, none of them twice.

What has arrived is remembered in the state folder, so that a call which was interrupted goes on with what is missing.
"""

import hashlib
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ocrfleet.api_types import ManifestInput, ObjectRef
from ocrfleet.cli.console import say
from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Display, display
from ocrfleet.client import ApiError, Client, StoreError
from ocrfleet.errors import InputAccessDenied, InputNotFound, StorageUnavailable

THREADS = 8
FOLDER = "uploads"
_LEFT_OUT = frozenset({"file_too_large"})
"""Codes of the API that are one file's matter."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the files: the manifest lines of those that arrived, in order, and why others did not."""

    lines: list[ObjectRef]
    left_out: dict[str, str]


class Ledger:
    """Ids of uploads by path, size and time of change, kept in a file from one call to the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[tuple[Any, ...], str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                *file, upload_id = orjson.loads(line)
            except (orjson.JSONDecodeError, ValueError, TypeError):
                # The last line of a call that was killed.
                continue
            self._known[tuple(file)] = upload_id

    def find(self, file: LocalFile) -> str | None:
        return self._known.get(_identity(file))

    def add(self, file: LocalFile, upload_id: str) -> None:
        identity = _identity(file)
        with self._lock, self._path.open("ab") as kept:
            self._known[identity] = upload_id
            kept.write(orjson.dumps([*identity, upload_id]) + b"\n")


def ledger(state: Path, client: Client) -> Ledger:
    """The ledger of a fleet and a key: another tenant has other uploads."""
    name = hashlib.sha256(f"{client.url} {client.key}".encode()).hexdigest()[:16]
    return Ledger(state / FOLDER / f"{name}.jsonl")


def send_all(client: Client, known: Ledger, files: Sequence[LocalFile], screen: Display) -> Sent:
    """Upload what is not there yet. ApiError, UnreachableError, StorageUnavailable or InputAccessDenied end it."""
    lines: dict[str, ObjectRef] = {}
    left_out: dict[str, str] = {}
    # One of its own: when it is closed after a failure, nobody goes on or waits for another try.
    own = Client(client.url, client.key, attempts=client.attempts)

    def send(file: LocalFile) -> None:
        if not _identity(file)[1]:
            left_out[file.name] = "the file is empty"
            return
        try:
            lines[file.name] = _sent(own, known, file)
        except ApiError as exc:
            if exc.code not in _LEFT_OUT:
                raise
            left_out[file.name] = exc.detail

    with ThreadPoolExecutor(THREADS) as pool, own:
        _each(pool, send, files, lambda done: screen.show("uploading", done, len(files)))
    return Sent([lines[file.name] for file in files if file.name in lines], left_out)


def uploaded(client: Client, state: Path, files: Sequence[LocalFile]) -> ManifestInput:
    """Upload the files and a manifest of them; the input of one job. InputNotFound if none could be taken."""
    with display() as screen:
        sent = send_all(client, ledger(state, client), files, screen)
        tell(sent)
        if not sent.lines:
            raise InputNotFound("there is no file to submit")
        manifest = b"".join(orjson.dumps(line) + b"\n" for line in sent.lines)
        with _told():
            put = client.upload_bytes(manifest, "manifest.jsonl")
    return {"type": "manifest", "bucket": put["bucket"], "key": put["key"]}


def tell(sent: Sent) -> None:
    """Name the files that were left out, and why."""
    for name, why in sent.left_out.items():
        say(f"left out: {name}: {why}")


def _each(
    pool: ThreadPoolExecutor,
    act: Callable[[LocalFile], None],
    files: Sequence[LocalFile],
    show: Callable[[int], None],
) -> None:
    """Do it for every file, of which only a few are begun ahead; the first failure ends it."""
    pending: set[Future[None]] = set()
    ended = 0
    for n, file in enumerate(files, 1):
        pending.add(pool.submit(act, file))
        while pending and (len(pending) >= 4 * THREADS or n == len(files)):
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
            ended += len(done)
            show(ended)


def _sent(client: Client, known: Ledger, file: LocalFile) -> ObjectRef:
    """The line of a file that is there, sent now or before."""
    try:
        with _told():
            put = client.upload_file(
                file.path, resume=known.find(file), begun=lambda upload_id: known.add(file, upload_id)
            )
    except OSError as exc:
        raise InputAccessDenied(f"{exc.filename or file.path}: {exc.strerror or exc}") from exc
    return {"bucket": put["bucket"], "key": put["key"], "custom_id": file.name, "etag": put["etag"] or ""}


@contextmanager
def _told() -> Generator[None]:
    """What the store refuses, as an error of the fleet."""
    try:
        yield
    except StoreError as exc:
        raise StorageUnavailable(str(exc)) from exc


def _identity(file: LocalFile) -> tuple[str, int, int]:
    try:
        found = file.path.stat()
    except OSError as exc:
        raise InputAccessDenied(f"{file.path}: {exc.strerror or exc}") from exc
    return str(file.path), found.st_size, found.st_mtime_ns
