"""A receiver of webhooks on loopback: it remembers what it was sent, and answers as it is told to."""

import ssl
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

HANG, CLOSE = "hang", "close"


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """`moods` are used up one by one, the last one stays: a status, HANG (no answer), or CLOSE (no answer, at once)."""

    def __init__(self, *moods: int | str, certificate: Path | None = None, **headers: str) -> None:
        self.received: list[Received] = []
        self.answer_headers = headers
        self._moods: deque[int | str] = deque(moods or (204,))
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"receiver": self}))
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self.port = self._server.server_port

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}/hook?x=1"

    def mood(self) -> int | str:
        with self._lock:
            return self._moods.popleft() if len(self._moods) > 1 else self._moods[0]

    def becomes(self, *moods: int | str) -> None:
        with self._lock:
            self._moods = deque(moods)

    def hang(self) -> None:
        self._over.wait(60)

    @property
    def message_ids(self) -> list[str]:
        return [one.message_id for one in self.received]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.close_connection = True
        mood = self.receiver.mood()
        self.receiver.received.append(Received(self.path, headers, body))
        if mood == HANG:
            self.receiver.hang()
        if isinstance(mood, str):
            return
        said = b"" if mood == 204 else b"so it is"
        self.send_response(mood)
        for name, value in self.receiver.answer_headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


class Names:
    """A resolver in the place of the system's: each name has answers, used up one by one, of which the last stays."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._names = {name.replace("_", "."): deque(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Any:  # noqa: ANN401
        self.asked.append(host)
        answers = self._names.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.popleft() if len(answers) > 1 else answers[0]
