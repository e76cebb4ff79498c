"""Scopes: every route has one, and a key does what its scopes say and nothing else."""

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


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_has_its_scope_in_the_table(method: str, path: str) -> None:
    assert scopes.is_known(method, path), f"add {method} {path} to api/scopes.py"


def test_the_router_is_walked_whole() -> None:
    assert {("POST", "/v1/jobs"), ("GET", "/livez"), ("DELETE", "/v1/api-keys/{key_id}")} <= set(ROUTES)


def test_a_route_that_was_forgotten_is_for_the_fleet_alone() -> None:
    assert scopes.needed("POST", "/v1/new") == Scope.FLEET


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
