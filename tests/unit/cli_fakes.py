"""Real classes at the seams of the CLI: an API that speaks HTTP on loopback, and a store in memory."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from ocrfleet.blobs import NullBlobs
from ocrfleet.catalogue import TASKS
from ocrfleet.cli.puts import etag
from ocrfleet.s3 import BlobInfo

KEY = "ocrk_test_secret"


class MemoryBlobs(NullBlobs):
    """Keeps what is put, and counts."""

    def __init__(self) -> None:
        super().__init__(0)
        self.kept: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.puts: list[str] = []

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        assert isinstance(data, Path), content_type
        self.kept[key], self.etags[key] = data.read_bytes(), etag(data)
        self.puts.append(key)
        return self._info(bucket, key)

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        yield from (
            self._info(bucket, key)
            for key in sorted(self.kept)
            if key.startswith(prefix) and key > start_after
        )

    def _info(self, bucket: str, key: str) -> BlobInfo:
        return BlobInfo(bucket, key, self.etags[key], None, len(self.kept[key]))


class FakeApi:
    """Reads a manifest's objects at once: their text is their content, a form feed ends a page, `!code` fails."""

    def __init__(self, blobs: MemoryBlobs | None = None) -> None:
        self.blobs = blobs or MemoryBlobs()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.states: dict[str, str] = {}
        """Where an act has brought a job that is held."""
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.busy = 0
        """So many requests are answered 503."""
        self.hang_ups = 0
        """So many requests are taken and not answered."""
        self.cuts: list[tuple[int, int]] = []
        """(seq, bytes of its line that still go out): where the next streams break."""
        self.hold = threading.Event()
        """Unset: jobs stay running, and streams that follow stay open."""
        self.hold.set()
        self.on_result: Callable[[int], None] = lambda _: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = str(uuid.uuid4())
        lines: list[dict[str, Any]] = []
        if body["input"]["type"] == "manifest":
            lines = [json.loads(line) for line in self.blobs.kept[body["input"]["key"]].splitlines()]
        results = [result for line in lines for result in self._read(job_id, line)]
        # Out of order, as from several workers.
        results.reverse()
        for seq, result in enumerate(results, 1):
            result["seq"] = seq
        self.results[job_id] = results
        self.jobs[job_id] = {"id": job_id, "created_at": "2026-11-20T10:00:00Z", **body}
        return self.show(job_id)

    def show(self, job_id: str) -> dict[str, Any]:
        results = self.results[job_id]
        dead = sum("error" in result for result in results)
        over = self.hold.is_set()
        counts = dict.fromkeys(("ready", "dispatched", "running", "canceled"), 0)
        counts |= {
            "total": len(results),
            "dead": dead if over else 0,
            "succeeded": len(results) - dead if over else 0,
        }
        counts["ready"] = 0 if over else len(results)
        return self.jobs[job_id] | {
            "state": "completed" if over else self.states.get(job_id, "running"),
            "outcome": ("succeeded" if not dead else "partial" if dead < len(results) else "failed") if over else None,
            "labels": self.jobs[job_id].get("labels") or {},
            "counts": counts,
            "items": {"total": len(results), "pending": 0},
            "expanded_at": "2026-11-20T10:00:01Z",
            "throughput": None, "eta": None, "eta_reason": None, "errors": {}, "blocked_on": None, "error": None,
            "priority": self.jobs[job_id].get("priority", 0), "deadline": self.jobs[job_id].get("deadline"),
        }  # fmt: skip

    def _read(self, job_id: str, line: dict[str, Any]) -> Iterator[dict[str, Any]]:
        common = {
            "job_id": job_id,
            "item_id": "i",
            "custom_id": line["custom_id"],
            "bucket": "b",
            "key": line["key"],
        }
        for page, text in enumerate(self.blobs.kept[line["key"]].decode().split("\f"), 1):
            record = {**common, "page": page, "state": "succeeded", "attempt": 1}
            if text.startswith("!"):
                error = {"code": text[1:], "retryable": False, "detail": f"{text[1:]} it is"}
                yield record | {"state": "dead", "error": error}
            else:
                yield record | {"text": text}


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _begin(self) -> bool:
        self.api.requests.append(f"{self.command} {self.path}")
        self.api.headers.append(dict(self.headers))
        if self.api.hang_ups:
            self.api.hang_ups -= 1
            self.close_connection = True
            return False
        if self.api.busy:
            self.api.busy -= 1
            self._problem(503, "no_capacity", {"Retry-After": "0"})
            return False
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self._problem(401, "unauthenticated")
            return False
        return True

    def do_POST(self) -> None:
        parts = self.path.strip("/").split("/")
        if len(parts) == 4:
            self._act(parts[2], parts[3])
            return
        body = self._body()
        if self._begin():
            self._send(202, json.dumps(self.api.submit(json.loads(body))).encode(), "application/json")

    def do_PATCH(self) -> None:
        self._act(self.path.split("/")[3], "update")

    def do_DELETE(self) -> None:
        self._act(self.path.split("/")[3], "delete")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _act(self, job_id: str, act: str) -> None:
        body = self._body()
        if not self._begin():
            return
        api = self.api
        if job_id not in api.jobs:
            self._problem(404, "not_found")
        elif act != "update" and (act == "delete") != api.hold.is_set():
            self._problem(409, "job_state_conflict")
        else:
            if act == "update":
                api.jobs[job_id] |= json.loads(body)
            api.states[job_id] = {"cancel": "canceling", "pause": "paused"}.get(act, "running")
            job = api.show(job_id)
            if act == "delete":
                del api.jobs[job_id]
            self._send(202, json.dumps(job).encode(), "application/json")

    def do_GET(self) -> None:
        if not self._begin():
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        if parts[:2] == ["v1", "jobs"] and len(parts) == 2:
            self._list(query)
        elif parts == ["v1", "tasks"]:
            tasks = [{"name": name, "available": name != "chart"} for name in TASKS]
            self._send(200, json.dumps({"data": tasks}).encode(), "application/json")
        elif parts[2] not in self.api.jobs:
            self._problem(404, "not_found")
        elif len(parts) == 3:
            self._send(200, json.dumps(self.api.show(parts[2])).encode(), "application/json")
        else:
            self._results(parts[2], int(query.get("cursor", 0)), follow=query["follow"] == "true")

    def _list(self, query: dict[str, str]) -> None:
        jobs = [self.api.show(job_id) for job_id in reversed(self.api.jobs)]
        if "label" in query:
            name, _, value = query["label"].partition(":")
            jobs = [job for job in jobs if job["labels"].get(name) == value]
        start, size = int(query.get("page_token", 0)), int(query["page_size"])
        token = str(start + size) if start + size < len(jobs) else None
        page = {"data": jobs[start : start + size], "next_page_token": token}
        self._send(200, json.dumps(page).encode(), "application/json")

    def _results(self, job_id: str, cursor: int, *, follow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for result in self.api.results[job_id]:
            if result["seq"] > cursor:
                line = json.dumps(result, ensure_ascii=False).encode() + b"\n"
                if self.api.cuts and self.api.cuts[0][0] == result["seq"]:
                    self._chunk(line[: self.api.cuts.pop(0)[1]])
                    self.close_connection = True
                    return
                self._chunk(line)
                self.api.on_result(result["seq"])
        if follow:
            self.api.hold.wait(30)
        self._chunk(b'{"_end":true,"cursor":"0"}\n')
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _problem(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = {
            "title": code,
            "status": status,
            "code": code,
            "detail": f"{code}!",
            "retryable": status == 503,
            "request_id": "r1",
        }
        self._send(status, json.dumps(body).encode(), "application/problem+json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
