"""An API on loopback that answers what a test has written down, and remembers what it was asked."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from ocrfleet.settings import child_environment


class CannedApi:
    """`answers` by method and path, with or without the query; bytes are sent as they are, a tuple has a status."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        """Method and path with its query, and the body."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, call: str, body: Any) -> tuple[int, Any]:  # noqa: ANN401
        self.asked.append((call, body))
        found = self.answers.get(call, self.answers.get(call.partition("?")[0]))
        if found is None:
            return 404, {"code": "not_found", "detail": f"no answer to {call}", "status": 404}
        return found if isinstance(found, tuple) else (200, found)


def call(api: CannedApi, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command against it: exit code, standard output, standard error."""
    environment = child_environment(
        OCRFLEET_URL=api.url, OCRFLEET_API_KEY="ocrk_test_secret", OCRFLEET_STATE=str(folder)
    )
    done = subprocess.run(
        [sys.executable, "-m", "ocrfleet.cli", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class _Handler(BaseHTTPRequestHandler):
    api: CannedApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        status, found = self.api.answer(f"{self.command} {self.path}", json.loads(body) if body else None)
        kind = "application/problem+json" if status >= 400 else "application/json"
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
