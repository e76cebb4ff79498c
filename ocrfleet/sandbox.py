"""Untrusted files are read in subprocesses, so that a crash or a hang costs one request and no neighbour.

A child gets a JSON request with an open file, answers with a JSON header and raw pixels, and is killed at the end of
its time. What runs in it is `ocrfleet.sandbox_child`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import LifoQueue
from typing import IO, Any, Self

import numpy as np

from ocrfleet.archives import Bounds, Member
from ocrfleet.documents import (
    COUNTED,
    HEAD_BYTES,
    Decoded,
    Limits,
    MediaType,
    Pixels,
    sniff,
    sniff_archive,
)
from ocrfleet.errors import (
    BY_CODE,
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    FleetError,
    Internal,
    RenderTimeout,
    TooManyPages,
)
from ocrfleet.images import decode_plain
from ocrfleet.sandbox_wire import read_header, read_into, write_header

RECYCLE_AFTER = 500
"""Requests after which a child makes way for a fresh one, with whatever it leaked."""
START_TIMEOUT = 60.0
"""Seconds for a child to import its libraries on a busy machine."""
MAX_LISTING = 64 * 1024 * 1024
"""Bytes of the names of an archive's members, as JSON."""
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # Our code, be it installed or not.
    "PYTHONPATH": str(Path(__file__).parents[1]),
    # A process with one job needs no pool of threads, and may not have one.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Of the processes: nothing there is worth reading."""
_MEMORY = {signal.SIGABRT.name, signal.SIGKILL.name}
"""How PDFium and C++ end when an allocation fails, and how the kernel ends what takes too much."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a file is and how many pages it has."""

    media_type: MediaType
    pages: int


class Sandbox:
    """A pool of `size` children, started when first needed. Calls block and may come from any thread."""

    def __init__(self, size: int, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._closed = False
        self._children: set[_Child] = set()
        # Last in, first out: a light load keeps few children, and those warm.
        self._slots: LifoQueue[_Child | None] = LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, path: Path, password: str | None = None) -> Counted:
        """Pages of a file: `EncryptedPdf`, `CorruptFile`, `EmptyFile` or `TooManyPages` if it cannot be read."""
        with path.open("rb") as file:
            media_type = sniff(file.read(HEAD_BYTES))
            if media_type not in COUNTED:
                return Counted(media_type, 1)
            request = {"verb": "count", "media_type": media_type, "password": password}
            header, _ = self._ask(request, file.fileno())
        pages, limit = int(header["pages"]), self._limits.max_document_pages
        if not pages:
            raise EmptyFile("The document has no pages.", limit=1, actual=0)
        if pages > limit:
            detail = f"The document has {pages} pages; the limit is {limit}."
            raise TooManyPages(detail, limit=limit, actual=pages)
        return Counted(media_type, pages)

    def render(
        self, path: Path, page: int, password: str | None = None, *, one_plane: bool = False
    ) -> Decoded:
        """A page (from 1) of a file as upright pixels, read in a child.

        With `one_plane` a PDF page without colour comes as a view of one plane, its last stride 0: a third of the
        memory, and those who need no colour see at once that there is none.
        The clock of `render_timeout` starts when a child takes the request, not while it waits for one.
        """
        with path.open("rb") as file:
            return self._render(file, page, password, one_plane=one_plane)

    def decode(self, data: bytes) -> Decoded:
        """An image of one page: a plain JPEG or PNG in this process, any other in a child."""
        if decoded := decode_plain(data, self._limits):
            return decoded
        # Unbuffered: the child shares our place in the file.
        with open(os.memfd_create("ocrfleet-image"), "w+b", buffering=0) as file:  # noqa: PTH123 (it has no path)
            file.write(data)
            file.seek(0)
            return self._render(file, 1)

    def _render(
        self, file: IO[bytes], page: int, password: str | None = None, *, one_plane: bool = False
    ) -> Decoded:
        media_type = sniff(file.read(HEAD_BYTES))
        request = {"verb": "render", "media_type": media_type, "password": password, "page": page}
        header, pixels = self._ask(request, file.fileno())
        if pixels is None or isinstance(pixels, bytes):
            raise Internal("The sandbox answered without pixels.")
        return Decoded(pixels if one_plane else np.ascontiguousarray(pixels), tuple(header["warnings"]))

    def members(self, path: Path, bounds: Bounds) -> list[Member]:
        """The files of an archive; `EmptyFile`, `CorruptFile`, `DecompressionBomb`, `TooManyEntries` of it as a whole."""
        listed = self._ask_archive(path, bounds, most=MAX_LISTING, verb="list")
        return [Member(*one) for one in json.loads(listed)]

    def extract(self, path: Path, name: str, bounds: Bounds) -> bytes:
        """The bytes of a member; `InputNotFound` if there is none of that name."""
        return self._ask_archive(path, bounds, most=bounds.member_bytes, verb="extract", name=name)

    def _ask_archive(self, path: Path, bounds: Bounds, *, most: int, **request: str) -> bytes:
        with path.open("rb") as file:
            kind = sniff_archive(file.read(HEAD_BYTES))
            asked = {**request, "archive": kind, "bounds": asdict(bounds), "most": most}
            _, data = self._ask(asked, file.fileno())
        if not isinstance(data, bytes):
            raise Internal("The sandbox answered without bytes.")
        return data

    def close(self) -> None:
        """End every child; requests that still run raise `Internal`."""
        with self._lock:
            self._closed = True
            children, self._children = self._children, set()
        for child in children:
            child.end()

    def _ask(self, request: dict[str, Any], file: int) -> "_Answer":
        child = self._slots.get()
        try:
            ended = ""
            # A child may also die of something else, such as a lack of memory: two deaths blame the file.
            for _ in range(2):
                child = child or self._start()
                started = time.monotonic()
                try:
                    return _checked(child.ask(request, file, self._limits.render_timeout))
                except TimeoutError as exc:
                    raise self._too_slow(started) from exc
                except (EOFError, OSError, ValueError) as exc:
                    ended = f"{child.end(grace=1.0)} {exc}".strip()
                    self._forget(child)
                    child = None
                    if ended == signal.SIGPROF.name:
                        raise self._too_slow(started) from exc
            raise self._deadly(ended)
        finally:
            if child and (child.broken or child.served >= RECYCLE_AFTER):
                child.end()
                self._forget(child)
                child = None
            self._slots.put(child)

    def _too_slow(self, started: float) -> RenderTimeout:
        limit, actual = self._limits.render_timeout, round(time.monotonic() - started, 1)
        return RenderTimeout(
            f"Not done after {actual:.1f} s; the limit is {limit:g} s.", limit=limit, actual=actual
        )

    def _deadly(self, ended: str) -> FleetError:
        detail, limit = f"The file ended two processes that read it ({ended})", self._limits.sandbox_memory
        if ended in _MEMORY:
            return DecompressionBomb(
                f"{detail}, as a lack of memory does; each had {limit} bytes.", limit=limit
            )
        return CorruptFile(f"{detail}.")

    def _start(self) -> "_Child":
        # Under the lock, so that close() cannot miss a child that is just being born.
        with self._lock:
            if self._closed:
                raise Internal("The sandbox is closed.")
            try:
                child = _Child(self._limits)
            except OSError as exc:
                raise Internal(f"The sandbox does not start ({exc}).") from exc
            self._children.add(child)
        try:
            child.read(START_TIMEOUT)
        except (EOFError, OSError, ValueError) as exc:
            ended = child.end(grace=1.0)
            self._forget(child)
            raise Internal(f"The sandbox does not start ({ended}).") from exc
        return child

    def _forget(self, child: "_Child") -> None:
        with self._lock:
            self._children.discard(child)


_Answer = tuple[dict[str, Any], Pixels | bytes | None]


class _Child:
    """One subprocess and our end of its socket."""

    def __init__(self, limits: Limits) -> None:
        self.served = 0
        self.broken = False
        """A request was sent whose answer was not read to its end."""
        self._max_pixels = max(limits.max_page_pixels, 2 * limits.render_max_pixels)
        self._ending = threading.Lock()
        self._socket, theirs = socket.socketpair()
        arguments = [json.dumps(asdict(limits)), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter and module
                [sys.executable, "-P", "-s", "-W", "ignore", "-m", "ocrfleet.sandbox_child", *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                # A Ctrl-C in the terminal is for the parent, which then ends its children.
                start_new_session=True,
            )

    def ask(self, request: dict[str, Any], file: int, timeout: float) -> _Answer:
        self.broken = True
        self.served += 1
        self._socket.settimeout(timeout)
        # The child has no right to open files of ours, and images in memory have no name.
        socket.send_fds(self._socket, [b"\0"], [file])
        write_header(self._socket, request)
        answer = self.read(timeout, request.get("most", 0))
        self.broken = False
        return answer

    def read(self, timeout: float, most: int = 0) -> _Answer:
        deadline = time.monotonic() + timeout
        header = read_header(self._socket, deadline)
        if "bytes" in header:
            if not 0 <= header["bytes"] <= most:
                raise ValueError(f"{header['bytes']} bytes")
            data = bytearray(header["bytes"])
            read_into(self._socket, memoryview(data), deadline)
            return header, bytes(data)
        if "width" not in header:
            return header, None
        width, height, planes = int(header["width"]), int(header["height"]), int(header["planes"])
        if min(width, height) < 1 or width * height > self._max_pixels or planes not in (1, 3):
            raise ValueError(f"{width} x {height} pixels in {planes} planes")
        pixels = np.empty((height, width, planes), np.uint8)
        read_into(self._socket, pixels.data.cast("B"), deadline)
        return header, np.broadcast_to(pixels, (height, width, 3))

    def end(self, grace: float = 0.0) -> str:
        """Kill the process unless it ends by itself within `grace` seconds, and say how it ended."""
        # close() and the thread that holds the child may both come here.
        with self._ending:
            try:
                code = self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
            self._socket.close()
        return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _checked(answer: _Answer) -> _Answer:
    header = answer[0]
    if "error" in header:
        error = BY_CODE.get(header["error"], Internal)
        raise error(header["detail"], **header["extra"])
    return answer
