"""Scopes: every route has one, and a key does what its scopes say and nothing else."""

import re
import socket
from collections.abc import Callable

import pytest
from api_rig import Api
from fastapi.routing import iter_route_contexts

from api import scopes
from api.app import create_app
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import tenants
from ocrfleet.store.tenants import USUAL, Scope

IDS = re.compile(r"\{[^}]*\}")
PAGES = {"/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"}
"""The framework's own, for everybody."""
ROUTES = sorted(
    (method, context.path)
    for context in iter_route_contexts(create_app(Settings()).routes)
    for method in getattr(context, "methods", None) or ()
    if context.path not in PAGES
)
KeyWith = Callable[..., str]


@pytest.fixture
def key_with(database: Database) -> KeyWith:
    """Makes a key of the default tenant with these scopes."""

    def make(*scopes: Scope) -> str:
        with database.transaction() as session:
            return tenants.create_key(session, scopes=scopes)

    return make


@pytest.fixture(scope="module")
def reader(strict: Api) -> str:
    """A key that reads and does nothing else."""
    database = Database(strict.settings.database_url, application="test")
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=(Scope.READ,))
    database.close()
    return key


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_has_its_scope_in_the_table(method: str, path: str) -> None:
    assert scopes.is_known(method, path), f"add {method} {path} to api/scopes.py"


def test_the_router_is_walked_whole() -> None:
    assert {("POST", "/v1/jobs"), ("GET", "/livez"), ("DELETE", "/v1/api-keys/{key_id}")} <= set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_path_needs_what_its_template_needs(method: str, path: str) -> None:
    assert scopes.is_known(method, IDS.sub("file-7.a b", path))
    assert scopes.needed(method, IDS.sub("file-7.a b", path)) == scopes.needed(method, path)


def test_a_route_that_was_forgotten_is_closed_to_everybody(api: Api, key_with: KeyWith) -> None:
    # The router finds a route for a path that the table has not: its `$` matches before the end of a line too.
    assert not scopes.is_known("GET", "/v1/tenants\n")
    with api.client(key_with(*Scope)) as http:
        assert http.get("/v1/tenants").status_code == 200
        answer = http.get("/v1/tenants%0A")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def answers_before_the_body(api: Api, method: str, path: str, key: str, more: str = "") -> str:
    """The status line that comes for a request of 100 KB of which no byte is sent."""
    host, port = api.url.removeprefix("http://").split(":")
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
        f"Authorization: Bearer {key}\r\n{more}\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096).partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path in ROUTES if method in ("POST", "PATCH")]
)
def test_a_stranger_and_a_key_without_the_scope_are_refused_before_the_body_is_read(
    strict: Api, reader: str, method: str, path: str
) -> None:
    if scopes.needed(method, path) is None:
        return
    path = path.replace("{", "").replace("}", "")
    for key, expected in (("ocrk_0_0", "401"), ("", "401"), (reader, "403")):
        for more in ("", "Idempotency-Key: k\r\n"):
            assert expected in answers_before_the_body(strict, method, path, key, more), (key, more)


def test_refusals_before_the_route_have_the_shape_of_its_errors(strict: Api, reader: str) -> None:
    with strict.client("ocrk_0_0") as stranger, strict.client(reader) as http:
        for path in ("/v1/files", "/v1/batches"):
            unknown = stranger.get(path)
            assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "unauthenticated")
            assert unknown.headers["WWW-Authenticate"] == "Bearer"
            assert http.post(path, json={}).json()["error"]["code"] == "forbidden"
        assert stranger.get("/v1/jobs").json()["code"] == "unauthenticated"


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_reaches_what_its_scope_names_and_nothing_else(
    api: Api, key_with: KeyWith, scope: Scope
) -> None:
    reached: set[Scope] = set()
    with api.client(key_with(scope)) as http:
        for method, path in ROUTES:
            if (needed := scopes.needed(method, path)) is None:
                continue
            answer = http.request(method, path.replace("{", "").replace("}", ""), json={})
            if answer.status_code == 403:
                # Batches and files have the errors of the API whose shape they have.
                assert f"`{needed}`" in answer.text, (method, path)
                if "error" not in (problem := answer.json()):
                    assert (problem["code"], problem["needed"]) == ("forbidden", needed)
                    assert problem["scopes"] == [scope]
            else:
                reached.add(needed)
                assert answer.status_code != 500, (method, path, answer.text)
    assert reached == {scope}


def test_a_key_without_scopes_does_all_but_the_fleets(api: Api, key_with: KeyWith) -> None:
    with api.client(key_with()) as http:
        assert http.get("/v1/jobs").status_code == 200
        assert http.get("/v1/api-keys").status_code == 200
        refused = http.get("/v1/tenants")
    assert (refused.status_code, refused.json()["scopes"]) == (403, list(USUAL))


def test_the_usage_of_all_tenants_needs_the_fleets_scope(api: Api, key_with: KeyWith) -> None:
    with api.client(key_with(Scope.READ)) as http:
        assert http.get("/v1/usage").status_code == 200
        assert http.get("/v1/usage", params={"group_by": "tenant"}).status_code == 403
    with api.client(key_with(Scope.READ, Scope.FLEET)) as http:
        assert http.get("/v1/usage", params={"group_by": "tenant"}).status_code == 200
