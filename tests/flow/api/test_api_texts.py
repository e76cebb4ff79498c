"""Half a surrogate pair, which JSON can say and the record cannot keep: 422 wherever a body has a text."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple, cast
from uuid import UUID

import httpx
import pytest
from api_rig import Api

from api.app import create_app
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Scope

HALF = "\ud800"
Path = tuple[str | int, ...]
DOCUMENT = create_app(Settings()).openapi()
NOT_TEXTS = {"enum", "const", "format"}


class Leaf(NamedTuple):
    """Where a body has a text, and what it must say beside it to be of that kind."""

    path: Path
    beside: tuple[tuple[Path, Any], ...] = ()

    @property
    def pointer(self) -> str:
        return "".join(f"/{part}" for part in self.path)


def leaves(
    schema: dict[str, Any], path: Path = (), beside: tuple[tuple[Path, Any], ...] = ()
) -> Iterator[Leaf]:
    """Every text that a schema has room for."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from leaves(choice, path, beside)
    members: dict[str, Any] = schema.get("properties", {})
    fixed = tuple(((*path, name), one["const"]) for name, one in members.items() if "const" in one)
    for name, one in members.items():
        yield from leaves(one, (*path, name), beside + fixed)
    if "items" in schema:
        yield from leaves(schema["items"], (*path, 0), beside)
    others: list[object] = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for one in others:
        if isinstance(one, dict):
            yield from leaves(cast("dict[str, Any]", one), (*path, "a"), beside)
    if schema.get("type") == "string" and not NOT_TEXTS & schema.keys():
        yield Leaf(path, beside)


def put(body: object, path: Path, value: object) -> Any:  # noqa: ANN401 (JSON)
    """The body with the value at this place, made as it needs be."""
    if not path:
        return value
    head, *rest = path
    if isinstance(head, int):
        return [put(None, tuple(rest), value)]
    members = cast("dict[str, Any]", body if isinstance(body, dict) else {})
    return {**members, head: put(members.get(head), tuple(rest), value)}


class Taker(NamedTuple):
    """A route that takes JSON, and a body as the document shows it."""

    method: str
    path: str
    schema: dict[str, Any]
    example: dict[str, Any]


def takers() -> Iterator[Taker]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            taken = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if not taken.get("schema"):
                continue
            shown = list(taken.get("examples", {}).values())
            yield Taker(method, path, taken["schema"], shown[0]["value"] if shown else {})


TAKERS = [pytest.param(taker, id=f"{taker.method} {taker.path}") for taker in takers()]


@pytest.fixture(scope="module")
def http(strict: Api) -> Iterator[httpx.Client]:
    database = Database(strict.settings.database_url, application="test")
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=list(Scope))
    with strict.client(key) as http:
        yield http
    database.close()


def send(http: httpx.Client, taker: Taker, body: object) -> httpx.Response:
    path = taker.path.replace("{job_id}", str(UUID(int=1))).replace("{webhook_id}", str(UUID(int=1)))
    path = path.replace("{tenant_id}", str(UUID(int=1))).replace("{rule_id}", "1")
    headers = {"Content-Type": "application/json"}
    return http.request(taker.method, path, content=json.dumps(body), headers=headers)


def pointers(answer: httpx.Response) -> list[str]:
    if answer.status_code == 400:  # as OpenAI's API says it
        return ["/" + answer.json()["error"]["param"].replace(".", "/")]
    assert answer.status_code == 422, answer.text
    return [fault["pointer"] for fault in answer.json()["errors"]]


def test_the_document_has_texts_of_every_kind() -> None:
    found = {(taker.path, leaf.pointer) for taker in takers() for leaf in leaves(taker.schema)}
    assert {
        ("/v1/jobs", "/prompt"),
        ("/v1/jobs", "/labels/a"),
        ("/v1/jobs", "/options/password"),
        ("/v1/jobs", "/input/include/0"),
        ("/v1/jobs", "/input/objects/0/options/password"),
        ("/v1/bucket-rules", "/prefix"),
        ("/v1/uploads", "/filename"),
        ("/v1/api-keys", "/name"),
        ("/v1/webhooks", "/description"),
        ("/v1/batches", "/metadata/a"),
        ("/v1/redrives", "/filter/worker"),
        ("/v1/tenants", "/buckets/0"),
    } <= found


@pytest.mark.parametrize("taker", TAKERS)
def test_half_a_surrogate_pair_is_refused_with_its_place(http: httpx.Client, taker: Taker) -> None:
    for leaf in leaves(taker.schema):
        body: Any = deepcopy(taker.example)
        for path, value in (*leaf.beside, (leaf.path, f"a{HALF}")):
            body = put(body, path, value)
        # Of the body of POST /v1/ocr, which is read otherwise, the reader itself says so.
        expected = "" if taker.path == "/v1/ocr" else leaf.pointer
        assert expected in pointers(send(http, taker, body)), leaf


@pytest.mark.parametrize("taker", TAKERS)
def test_half_a_surrogate_pair_in_a_members_name_is_refused(http: httpx.Client, taker: Taker) -> None:
    answer = send(http, taker, taker.example | {HALF: 1})
    # Theirs ignores what it does not know: it goes on, and finds no such file.
    assert answer.status_code == (404 if taker.path == "/v1/batches" else 422), answer.text


@pytest.mark.parametrize("place", [("output_schema", "title"), ("labels", HALF), ("input", HALF)])
def test_so_is_one_in_what_no_model_names(http: httpx.Client, place: Path) -> None:
    taker = next(one for one in takers() if one.path == "/v1/jobs")
    body = put(taker.example, place, HALF) | {"task": "extract"}
    assert send(http, taker, body).status_code == 422


def test_a_large_upload_is_refused_before_the_store_is_asked(http: httpx.Client) -> None:
    # Its store is nowhere: whoever began the upload's parts would be told 503.
    large = {"filename": "a.pdf", "bytes": 100 * 1024 * 1024}
    taker = next(one for one in takers() if one.path == "/v1/uploads")
    assert send(http, taker, large).status_code == 503
    assert pointers(send(http, taker, large | {"filename": f"{HALF}.pdf"})) == ["/filename"]


def test_a_form_in_another_encoding_cannot_say_it_either(http: httpx.Client) -> None:
    parts = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc\r\n'
    parts += b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\\ud800\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"}
    assert pointers(http.post("/v1/ocr", content=parts, headers=headers)) == ["/prompt"]
    other = parts.replace(b"prompt", b"\\ud800")
    assert pointers(http.post("/v1/ocr", content=other, headers=headers)) == ["/\\ud800"]
