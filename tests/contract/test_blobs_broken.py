"""The object store against a server that misbehaves: a small real HTTP server with one answer per test."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from ocrfleet import errors
from ocrfleet.blobs import Blobs, connect
from ocrfleet.s3 import BadName
from ocrfleet.settings import Settings

XML = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message><Resource/><RequestId/></Error>"


def answer(status: int, body: str = "", kind: str = "application/xml", *, length: int | None = None) -> bytes:
    head = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body) if length is None else length}",
        f"Content-Type: {kind}",
        'ETag: "now"',
        "Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", body]).encode()


class BrokenServer:
    """Gives the answers in turn, the last one for ever; `hang` keeps the connection open after it."""

    def __init__(self, answers: list[bytes], *, hang: bool = False) -> None:
        self.requests = 0
        self._answers = answers
        self._ended = threading.Event()
        self._hang = hang
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        held: list[socket.socket] = []
        while not self._ended.is_set():
            connection, _ = self._socket.accept()
            held.append(connection)
            if connection.recv(65_536):
                said = self._answers[min(self.requests, len(self._answers) - 1)]
                # Counted first: the client may look as soon as it has the answer.
                self.requests += 1
                connection.sendall(said)
            if not self._hang:
                connection.shutdown(socket.SHUT_WR)
        for connection in held:
            connection.close()

    def close(self) -> None:
        self._ended.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._socket.close()


@contextmanager
def broken(*answers: bytes, hang: bool = False) -> Generator[tuple[Blobs, BrokenServer]]:
    server = BrokenServer(list(answers), hang=hang)
    try:
        yield client(server.port), server
    finally:
        server.close()


def client(port: int) -> Blobs:
    return connect(
        Settings(
            store_url=f"http://127.0.0.1:{port}", store_secret_key=SecretStr("secret"), store_timeout=0.3
        )
    )


def fetch(blobs: Blobs) -> bytes:
    return blobs.fetch("scans", "a.jpg", max_bytes=1000).data


def stream(blobs: Blobs) -> bytes:
    with blobs.stream("scans", "a.jpg") as stream:
        return b"".join(stream.chunks)


CALLS: dict[str, Callable[[Blobs], object]] = {
    "stat": lambda blobs: blobs.stat("scans", "a.jpg"),
    "fetch": fetch,
    "stream": stream,
    "scan": lambda blobs: list(blobs.scan("scans", "")),
    "put bytes": lambda blobs: blobs.put("scans", "a.jpg", b"x", "image/jpeg"),
    "put file": lambda blobs: blobs.put("scans", "a.py", Path(__file__), "text/plain"),
    "remove": lambda blobs: blobs.remove("scans", "a.jpg"),
    "ensure_bucket": lambda blobs: blobs.ensure_bucket("scans"),
    "ping": lambda blobs: blobs.ping(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
each_read = pytest.mark.parametrize("read", [fetch, stream])


@each_call
def test_a_store_that_is_overloaded_is_unavailable(call: Callable[[Blobs], object]) -> None:
    with broken(answer(503, XML.format("SlowDown"))) as (blobs, server):
        with pytest.raises(errors.StorageUnavailable):
            call(blobs)
        assert server.requests == 3, "a first try and two more"


@each_call
def test_a_store_that_is_not_there_is_unavailable(call: Callable[[Blobs], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(errors.StorageUnavailable):
        call(client(port))


@each_call
def test_a_store_that_is_silent_is_unavailable(call: Callable[[Blobs], object]) -> None:
    with broken(b"", hang=True) as (blobs, _), pytest.raises(errors.StorageUnavailable):
        call(blobs)


@each_read
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(500, "oops", "text/html"), errors.StorageUnavailable),
        (answer(502, ""), errors.StorageUnavailable),
        (answer(503, "<Error><Code>Slow"), errors.StorageUnavailable),
        (answer(429, XML.format("TooManyRequests")), errors.StorageUnavailable),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", errors.StorageUnavailable),
        (answer(403, "<html>proxy</html>", "text/html"), errors.InputAccessDenied),
        (answer(400, XML.format("AuthorizationHeaderMalformed")), errors.InputAccessDenied),
        (answer(404, "<html>proxy</html>", "text/html"), errors.InputNotFound),
        (answer(404, XML.format("NoSuchBucket")), errors.InputNotFound),
        (answer(404, XML.format("NoSuchVersion")), errors.InputNotFound),
        (answer(412, XML.format("PreconditionFailed")), errors.InputChanged),
        (answer(400, XML.format("XMinioInvalidObjectName")), BadName),
        (answer(409, XML.format("ExistingObjectIsDirectory")), BadName),
        (answer(400, XML.format("KeyTooLongError")), BadName),
    ],
)
def test_refusals_by_status(
    read: Callable[[Blobs], bytes], said: bytes, expected: type[errors.FleetError]
) -> None:
    with broken(said) as (blobs, _), pytest.raises(expected, match=r"scans/a\.jpg"):
        read(blobs)


@each_read
def test_a_failure_that_passes_is_not_seen(read: Callable[[Blobs], bytes]) -> None:
    with broken(answer(503, XML.format("SlowDown")), answer(200, "content")) as (blobs, server):
        assert read(blobs) == b"content"
        assert server.requests == 2


@each_read
@pytest.mark.parametrize("hang", [False, True], ids=["cut off", "stalled"])
def test_a_body_that_ends_early_is_unavailable(read: Callable[[Blobs], bytes], hang: bool) -> None:
    with (
        broken(answer(200, "only this", length=500), hang=hang) as (blobs, _),
        pytest.raises(errors.StorageUnavailable),
    ):
        read(blobs)


def test_the_size_is_judged_before_the_body_is_read() -> None:
    # The body never comes: reading it would end as unavailable.
    with (
        broken(answer(200, length=10_000_000_000), hang=True) as (blobs, _),
        pytest.raises(errors.FileTooLarge, match="10000000000 bytes, the limit is 1000"),
    ):
        fetch(blobs)


def test_an_answer_without_a_size_is_not_trusted() -> None:
    with (
        broken(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nendless") as (blobs, _),
        pytest.raises(errors.StorageUnavailable, match="size"),
    ):
        fetch(blobs)


def test_a_changed_object_is_noticed_where_the_store_ignores_the_condition() -> None:
    with broken(answer(200, "content")) as (blobs, _):
        with pytest.raises(errors.InputChanged, match="ETag before, now now"):
            blobs.fetch("scans", "a.jpg", max_bytes=1000, etag="before")
        with pytest.raises(errors.InputChanged), blobs.stream("scans", "a.jpg", etag="before"):
            pass
