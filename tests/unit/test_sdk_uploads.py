"""Uploads of the SDK: gone on with where they stopped, again when the store fails, and our key is not shown to it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Lines
from ocrfleet.cli.remote import Ledger, send_all
from ocrfleet.client import ApiError, AsyncClient, Client, StoreError, UnreachableError
from ocrfleet.client.uploads import Upload
from ocrfleet.errors import StorageUnavailable

KEY = "ocrk_test_secret"
DATA = b"the first part, and the last"
SIZES = (15, 13)
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


class Fleet:
    """An API with uploads in two parts, and the store behind it, on one address."""

    def __init__(self) -> None:
        self.uploads: dict[str, dict[str, Any]] = {}
        self.there: dict[str, bytes] = {}
        """What was put, by upload and number of the part."""
        self.refusals: list[int] = []
        """Statuses of the next answers of the store; 0 hangs up."""
        self.refused: dict[bytes, int] = {}
        """Its status for ever, by the first byte."""
        self.puts: list[str] = []
        self.keys_shown: list[str | None] = []
        """What the store was sent as Authorization."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"fleet": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.store = self.url

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"u{len(self.uploads) + 1}"
        self.uploads[name] = {"id": name, "state": "open", "bytes": body["bytes"], "filename": body["filename"],
                              "bucket": "b", "key": f"uploads/{name}", "etag": None}  # fmt: skip
        return self.uploads[name] | {"method": "parts", "url": None, "fields": {}, "parts": self.parts(name)}

    def parts(self, name: str) -> list[dict[str, Any]]:
        return [
            {"number": n, "bytes": size, "url": f"{self.store}/{name}/{n}", "uploaded": f"/{name}/{n}" in self.there}
            for n, size in enumerate(SIZES, 1)
        ]  # fmt: skip

    def answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        parts = path.strip("/").split("/")[2:]
        if method == "POST" and not parts:
            return self.begin(body)
        if parts[0] not in self.uploads:
            return None
        if parts[1:] == ["parts"]:
            return {"data": self.parts(parts[0])} if self.uploads[parts[0]]["state"] == "open" else None
        if parts[1:] == ["complete"]:
            self.uploads[parts[0]] |= {"state": "complete", "etag": "e"}
        return self.uploads[parts[0]]


class _Handler(BaseHTTPRequestHandler):
    fleet: Fleet
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def do_PUT(self) -> None:
        body = self._body()
        fleet = self.fleet
        fleet.puts.append(self.path)
        fleet.keys_shown.append(self.headers["Authorization"])
        status = fleet.refusals.pop(0) if fleet.refusals else fleet.refused.get(body[:1], 200)
        if not status:
            self.close_connection = True
            return
        if status == 200:
            fleet.there[self.path] = body
        self._send(status, b"not now", "text/plain")

    def do_GET(self) -> None:
        self._api()

    def do_POST(self) -> None:
        self._api()

    def _api(self) -> None:
        body = self._body()
        found = self.fleet.answer(self.command, self.path, json.loads(body) if body else {})
        if found is None:
            self._send(404, b'{"code": "not_found", "status": 404}', "application/problem+json")
        else:
            self._send(200, json.dumps(found).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with Fleet() as fleet:
        yield fleet


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(DATA)
    return path


def put(fleet: Fleet, file: Path, flavour: str = "sync", attempts: int = 3, **how: Any) -> Upload:
    if flavour == "sync":
        with Client(fleet.url, KEY, attempts=attempts) as client:
            return client.upload_file(file, **how)

    async def there() -> Upload:
        async with AsyncClient(fleet.url, KEY, attempts=attempts) as client:
            return await client.upload_file(file, **how)

    return asyncio.run(there())


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_an_upload_goes_on_with_the_parts_that_are_missing(fleet: Fleet, file: Path, flavour: str) -> None:
    begun: list[str] = []
    fleet.refusals = [200, 403]
    with pytest.raises(StoreError, match=r"a\.tif: the store answers 403: not now"):
        put(fleet, file, flavour, begun=begun.append)
    assert begun == ["u1"]
    done = put(fleet, file, flavour, resume=begun[0], begun=begun.append)
    assert (done["id"], done["state"], begun) == ("u1", "complete", ["u1"])
    assert fleet.puts == ["/u1/1", "/u1/2", "/u1/2"]
    assert fleet.there["/u1/1"] + fleet.there["/u1/2"] == DATA
    assert put(fleet, file, flavour, resume="u1") == done
    assert len(fleet.puts) == 3, "of one that is complete nothing is sent"


@pytest.mark.parametrize("why", ["gone", "expired", "of another size"])
def test_one_that_cannot_be_gone_on_with_is_begun_anew(fleet: Fleet, file: Path, why: str) -> None:
    begun: list[str] = []
    put(fleet, file, begun=begun.append)
    if why == "gone":
        del fleet.uploads["u1"]
        fleet.uploads["u0"] = {}
    elif why == "expired":
        fleet.uploads["u1"]["state"] = "expired"
    else:
        fleet.uploads["u1"]["bytes"] -= 1
    assert put(fleet, file, resume="u1", begun=begun.append)["id"] == "u2"
    assert begun == ["u1", "u2"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_store_that_fails_is_tried_again_and_one_that_refuses_is_not(
    fleet: Fleet, file: Path, flavour: str
) -> None:
    fleet.refusals = [500, 0, 200, 503]
    assert put(fleet, file, flavour)["state"] == "complete"
    assert fleet.puts == ["/u1/1"] * 3 + ["/u1/2"] * 2
    fleet.puts.clear()
    fleet.refusals = [500] * 9
    with pytest.raises(StoreError, match="500") as caught:
        put(fleet, file, flavour)
    assert fleet.puts == ["/u2/1"] * 3
    assert isinstance(caught.value, UnreachableError), "who waits for that one meets this one too"
    with pytest.raises(ApiError), Client(fleet.url, KEY) as client:
        client.upload_status("nothing")


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_the_store_is_not_shown_our_key(fleet: Fleet, file: Path, flavour: str) -> None:
    put(fleet, file, flavour)
    assert fleet.keys_shown == [None, None]


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_store_of_the_internet_is_reached_by_its_proxy_and_one_of_this_machine_directly(
    fleet: Fleet, file: Path, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    put(fleet, file, flavour)
    monkeypatch.setenv("HTTP_PROXY", fleet.url)
    fleet.store = "http://store.example"
    fleet.refusals, fleet.puts = [], []
    put(fleet, file, flavour, attempts=1)
    assert fleet.puts == ["http://store.example/u2/1", "http://store.example/u2/2"]


@pytest.mark.timeout(60)
def test_of_files_that_go_together_the_first_failure_ends_all(fleet: Fleet, tmp_path: Path) -> None:
    files = [LocalFile(name, tmp_path / name) for name in ("A", "B")]
    for file in files:
        file.path.write_bytes(file.name.encode() * sum(SIZES))
    fleet.refused = {b"A": 403, b"B": 500}
    with Client(fleet.url, KEY, attempts=1000) as client:
        with pytest.raises(StorageUnavailable, match="A: the store answers 403"):
            send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
        fleet.refused = {}
        sent = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert [line.get("custom_id") for line in sent.lines] == ["A", "B"]
