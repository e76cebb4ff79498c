"""Local files to a fleet that is reached by its API alone: several uploads at a time, none of them twice.

What has arrived is remembered in the state folder, so that a call which was interrupted goes on with what is missing.
"""

import hashlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from ocrfleet.api_types import ManifestInput, ObjectRef
from ocrfleet.cli.console import say
from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Display, display
from ocrfleet.client import ApiError, Client
from ocrfleet.errors import InputAccessDenied, InputNotFound, StorageUnavailable

THREADS = 8
TRIES = 6
_GONE = 404
FOLDER = "uploads"
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
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
    with (
        httpx.Client(timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False) as local,
        httpx.Client(timeout=httpx.Timeout(60.0, connect=5.0)) as far,
    ):
        sender = _Sender(client, known, lambda url: local if httpx.URL(url).host in _LOCAL else far)

        def send(file: LocalFile) -> None:
            if sender.stop.is_set():
                return
            if not _identity(file)[1]:
                left_out[file.name] = "the file is empty"
                return
            try:
                lines[file.name] = sender.send(file)
            except ApiError as exc:
                if exc.code not in _LEFT_OUT:
                    raise
                left_out[file.name] = exc.detail

        with ThreadPoolExecutor(THREADS) as pool:
            try:
                _each(pool, send, files, lambda done: screen.show("uploading", done, len(files)))
            finally:
                sender.stop.set()
    return Sent([lines[file.name] for file in files if file.name in lines], left_out)


def uploaded(client: Client, state: Path, files: Sequence[LocalFile]) -> ManifestInput:
    """Upload the files and a manifest of them; the input of one job. InputNotFound if none could be taken."""
    with display() as screen:
        sent = send_all(client, ledger(state, client), files, screen)
        tell(sent)
        if not sent.lines:
            raise InputNotFound("there is no file to submit")
        with tempfile.TemporaryDirectory(prefix="ocrfleet-manifest-") as folder:
            path = Path(folder) / "manifest.jsonl"
            path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in sent.lines))
            fresh = Ledger(Path(folder) / "ledger")
            (line,) = send_all(client, fresh, [LocalFile(path.name, path)], screen).lines
    return {"type": "manifest", "bucket": line.get("bucket", ""), "key": line["key"]}


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


class _Sender:
    def __init__(self, client: Client, known: Ledger, http: Callable[[str], httpx.Client]) -> None:
        self.stop = threading.Event()
        self._client = client
        self._known = known
        self._http = http

    def send(self, file: LocalFile) -> ObjectRef:
        """The line of a file that is there, sent now or before."""
        found = self._earlier(file)
        if found is None or found["state"] == "expired":
            size = _identity(file)[1]
            found = self._ask("POST", "/v1/uploads", {"filename": file.path.name[-255:], "bytes": size})
            self._known.add(file, found["id"])
        if found["state"] != "complete":
            for part in self._missing(found):
                self._put(file, part)
            found = self._ask("POST", f"/v1/uploads/{found['id']}/complete")
        return {
            "bucket": found["bucket"],
            "key": found["key"],
            "custom_id": file.name,
            "etag": found["etag"],
        }

    def _earlier(self, file: LocalFile) -> dict[str, Any] | None:
        upload_id = self._known.find(file)
        if upload_id is None:
            return None
        try:
            found = self._client.carry_out(self._client.get(f"/v1/uploads/{upload_id}"))
            if found["state"] == "open":
                found["parts"] = self._client.carry_out(self._client.get(f"/v1/uploads/{upload_id}/parts"))[
                    "data"
                ]
        except ApiError as exc:
            # Removed; or one that goes in one piece, which is begun anew.
            if exc.status != _GONE:
                raise
            return None
        return found

    def _missing(self, upload: dict[str, Any]) -> list[dict[str, Any]]:
        """What is still to be sent: one form, or the parts that are not there."""
        if upload.get("method") == "post":
            return [{"url": upload["url"], "fields": upload["fields"]}]
        begin = 0
        missing: list[dict[str, Any]] = []
        for part in upload["parts"]:
            if not part["uploaded"]:
                missing.append({**part, "begin": begin})
            begin += part["bytes"]
        return missing

    def _put(self, file: LocalFile, part: dict[str, Any]) -> None:
        problem = ""
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._request(file, part)
            except httpx.TransportError as exc:
                problem = str(exc) or type(exc).__name__
            except OSError as exc:
                raise InputAccessDenied(f"{file.path}: {exc.strerror or exc}") from exc
            else:
                if answer.is_success:
                    return
                problem = f"the store answers {answer.status_code}: {answer.text[:200]}"
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    break
            if attempt < TRIES and self.stop.wait(0.25 * 2**attempt):
                break
        raise StorageUnavailable(f"{file.path}: {problem}")

    def _request(self, file: LocalFile, part: dict[str, Any]) -> httpx.Response:
        http = self._http(part["url"])
        with file.path.open("rb") as content:
            if "fields" in part:
                return http.post(part["url"], data=part["fields"], files={"file": (file.path.name, content)})
            content.seek(part["begin"])
            return http.put(part["url"], content=content.read(part["bytes"]))

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return self._client.carry_out(self._client.send(method, path, body))


def _identity(file: LocalFile) -> tuple[str, int, int]:
    try:
        found = file.path.stat()
    except OSError as exc:
        raise InputAccessDenied(f"{file.path}: {exc.strerror or exc}") from exc
    return str(file.path), found.st_size, found.st_mtime_ns
