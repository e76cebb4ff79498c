"""The process inside the sandbox: it reads one untrusted file at a time and has little it could harm."""

import json
import os
import select
import socket
import sys
import threading
from contextlib import nullcontext, suppress
from dataclasses import astuple
from typing import IO, Any

from ocrfleet import archives, sandbox_walls
from ocrfleet.documents import ArchiveType, Limits, MediaType
from ocrfleet.errors import FleetError
from ocrfleet.images import count_tiff, decode_file, foreign_errors
from ocrfleet.sandbox import RECYCLE_AFTER
from ocrfleet.sandbox_pdf import PdfReader
from ocrfleet.sandbox_wire import read_header, write_header

_Answer = tuple[dict[str, Any], memoryview | None]


class Reader:
    """Answers requests."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pdf = PdfReader(limits)
        self._extractor = archives.Extractor()

    def answer(self, request: dict[str, Any], file: IO[bytes]) -> _Answer:
        """A header, and the pixels or bytes that follow it."""
        size = os.fstat(file.fileno()).st_size
        try:
            with foreign_errors(size, self._limits):
                if "archive" in request:
                    return self._from_archive(request, file, size)
                kind = MediaType(request["media_type"])
                if request["verb"] == "count":
                    pdf = kind is MediaType.PDF
                    return {
                        "pages": self._pdf.count(file, request["password"]) if pdf else count_tiff(file)
                    }, None
                if kind is MediaType.PDF:
                    return self._pdf.render(file, int(request["page"]), request["password"])
                return self._decode(file, kind, size, int(request["page"]))
        except FleetError as exc:
            return {"error": exc.code, "detail": exc.detail, "extra": exc.extra}, None

    def _decode(self, file: IO[bytes], kind: MediaType, size: int, page: int) -> _Answer:
        with sandbox_walls.allow_threads() if kind is MediaType.HEIF else nullcontext():
            decoded = decode_file(file, kind, size, page - 1, self._limits)
        height, width, _ = decoded.pixels.shape
        header = {"width": width, "height": height, "planes": 3, "warnings": decoded.warnings}
        return header, decoded.pixels.data.cast("B")

    def _from_archive(self, request: dict[str, Any], file: IO[bytes], size: int) -> _Answer:
        kind, bounds = ArchiveType(request["archive"]), archives.Bounds(**request["bounds"])
        if request["verb"] == "list":
            found = [astuple(member) for member in archives.members(file, kind, size, bounds)]
            data = json.dumps(found).encode()
        else:
            data = self._extractor.extract(file, kind, request["name"], bounds)
        return {"bytes": len(data)}, memoryview(data)


def main() -> None:
    """Serve the socket on standard input until the parent closes it."""
    limits, parent = Limits(**json.loads(sys.argv[1])), int(sys.argv[2])
    connection = socket.socket(fileno=0)
    apart = sandbox_walls.isolate()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    sandbox_walls.confine(limits, RECYCLE_AFTER, apart=apart)
    # Libraries write what they think of a file there; whatever kept us from starting has been seen.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    reader = Reader(limits)
    # What follows the header of an answer can only fail because the parent is gone.
    with suppress(EOFError, OSError):
        write_header(connection, {})
        while True:
            _serve(connection, reader, limits.render_timeout)
            sandbox_walls.give_memory_back()


def _serve(connection: socket.socket, reader: Reader, seconds: float) -> None:
    _, files, _, _ = socket.recv_fds(connection, 1, 1)
    if not files:
        raise EOFError
    with open(files[0], "rb") as file:  # noqa: PTH123 (it has no path)
        request = read_header(connection)
        sandbox_walls.start_clock(seconds)
        # Whoever looked at its first bytes shares its place in the file with us.
        file.seek(0)
        header, pixels = reader.answer(request, file)
    write_header(connection, header)
    if pixels is not None:
        connection.sendall(pixels)


def _end_with_parent(parent: int) -> None:
    """Leave at once, whatever the main thread does; PR_SET_PDEATHSIG would fire when the starting thread ends."""
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    while os.getppid() == parent and not poll.poll(1000):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
