"""The rig's objects over S3, by a server with moods: 503, a body that ends early, silence.

Its objects are those of the null store, so that a page is the same whichever worker reads it.
"""

import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from ocrfleet.blobs import NullBlobs
from ocrfleet.errors import InputNotFound

STALL = 30.0
"""Seconds of silence: longer than any client waits."""
_MISSING = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>no</Message></Error>"


class FarStore:
    """`with` serves it; `mood` is what befalls each read from now on, None for nothing."""

    MOODS = ("busy", "truncated", "stalled")

    def __init__(self, objects: NullBlobs) -> None:
        self.mood: str | None = None
        self.befallen = Counter[str]()
        """Reads, by what befell them."""
        self._counted = threading.Lock()
        self._ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self, objects))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def befall(self) -> str | None:
        """What befalls this read, counted."""
        mood = self.mood
        if mood:
            with self._counted:
                self.befallen[mood] += 1
        return mood

    def recover(self) -> None:
        self.mood = None

    def stall(self) -> None:
        """Keep one reader waiting, until it is over."""
        end = time.monotonic() + STALL
        while self.mood == "stalled" and time.monotonic() < end and not self._ended.wait(0.1):
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that was killed is no news here."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, store: FarStore, objects: NullBlobs, *args: Any) -> None:
        self._store = store
        self._objects = objects
        super().__init__(*args)  # it serves its connection in here

    def log_message(self, *_: object) -> None:
        """No line for each read."""

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def _serve(self, *, with_body: bool) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        mood = self._store.befall()
        # A reader that has given up is no concern of ours.
        with suppress(OSError):
            if mood == "stalled":
                self._store.stall()
                self.close_connection = True
            elif mood == "busy":
                self._answer(503, _BUSY, with_body=with_body)
            elif not key:
                self._answer(200, b"", with_body=with_body)
            else:
                self._object(bucket, key, with_body=with_body, truncated=mood == "truncated")

    def _object(self, bucket: str, key: str, *, with_body: bool, truncated: bool) -> None:
        try:
            with self._objects.stream(bucket, key) as stream:
                data = b"".join(stream.chunks)
        except InputNotFound:
            self._answer(404, _MISSING, with_body=with_body)
            return
        self._answer(200, data, with_body=with_body, sent=len(data) // 2 if truncated else None)

    def _answer(self, status: int, data: bytes, *, with_body: bool, sent: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/xml" if status >= 400 else "image/png")
        self.send_header("ETag", f'"{self._objects.etag}"')
        self.send_header("Last-Modified", self.date_time_string())
        self.end_headers()
        if with_body:
            self.wfile.write(data[:sent])
        if sent is not None:
            self.close_connection = True
