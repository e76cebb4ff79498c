"""Tenants apart: with another tenant's ids every route answers 404, changes nothing and tells nothing.

The routes are the router's own. A new parameter of a path fails here until `EXAMPLES` has an id for it, and a new body
until it can be had from the documentation's example or from `BODIES`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from api_rig import NOWHERE, Api, Worker, serve
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import text

from api import scopes
from api.app import create_app
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Scope

MARK = "leaked"
"""Stands in everything of the other tenant's that could be told."""
APP = create_app(Settings())
DOCUMENT: dict[str, Any] = APP.openapi()
ROUTES = sorted(
    (method, context.path)
    for context in iter_route_contexts(APP.routes)
    for method in getattr(context, "methods", None) or ()
    if scopes.is_known(method, context.path) and context.path.startswith("/v1/")
)
OURS = [
    (method, path) for method, path in ROUTES if scopes.needed(method, path) not in (scopes.OPEN, Scope.FLEET)
]
"""Those that a key of a tenant reaches."""
WITH_IDS = [(method, path) for method, path in OURS if "{" in path]
LISTS = [path for method, path in OURS if method == "GET" and "{" not in path]

_INPUT = '\'{"type": "prefix", "bucket": "leaked", "prefix": "leaked"}\', \'{"mark": "leaked"}\''
EXAMPLES: Mapping[str, str] = {
    "job_id": f"""INSERT INTO jobs (id, tenant_id, task, input, labels, state, listed_at, expanded_at, finished_at,
        outcome, items_total, total, dead, result_seq) VALUES (gen_random_uuid(), :tenant, 'text', {_INPUT},
        'completed', now(), now(), now(), 'failed', 1, 1, 1, 1) RETURNING id""",  # noqa: S608
    "item_id": """INSERT INTO items (job_id, ordinal, bucket, key, custom_id, state, page_count)
        VALUES (:job_id, 0, 'leaked', 'leaked', 'leaked', 'counted', 1) RETURNING id""",
    "letter_id": """INSERT INTO pages (item_id, job_id, number, state, attempt, fence)
        VALUES (:item_id, :job_id, 1, 'dead', 1, 1) RETURNING id""",
    "redrive_id": """INSERT INTO redrives (tenant_id, filter, reason) VALUES (:tenant, '{}', 'leaked') RETURNING id""",
    "key_id": """INSERT INTO api_keys (id, tenant_id, name, secret_sha256)
        VALUES (substr(md5(random()::text), 1, 12), :tenant, 'leaked', '') RETURNING id""",
    "upload_id": """INSERT INTO uploads (id, tenant_id, bucket, key, filename, bytes, multipart_id)
        VALUES (gen_random_uuid(), :tenant, 'leaked', 'leaked', 'leaked', 5, 'leaked') RETURNING id""",
    "file_id": """INSERT INTO files (id, tenant_id, purpose, filename, bucket, key)
        VALUES ('file-' || md5(random()::text), :tenant, 'batch', 'leaked', 'leaked', 'leaked') RETURNING id""",
    "batch_id": """INSERT INTO batches (id, tenant_id, input_file_id, endpoint, completion_window, metadata, expires_at)
        VALUES ('batch_' || md5(random()::text), :tenant, 'file-leaked', '/v1/responses', '24h',
        '{"mark": "leaked"}', now() + interval '1 day') RETURNING id""",
    "source_id": """INSERT INTO event_sources (tenant_id, name, token_sha256)
        VALUES (:tenant, 'leaked-' || md5(random()::text), '') RETURNING id""",
    "rule_id": """INSERT INTO bucket_rules (tenant_id, name, bucket, job)
        VALUES (:tenant, 'leaked-' || md5(random()::text), 'leaked', '{"task": "text"}') RETURNING id""",
    "export_id": """INSERT INTO exports (id, tenant_id, job_id, format, bucket, prefix)
        VALUES (gen_random_uuid(), :tenant, :job_id, 'jsonl', 'leaked', 'leaked-' || md5(random()::text)) RETURNING id""",
    "webhook_id": """INSERT INTO webhooks (id, tenant_id, url, description, secret) VALUES (gen_random_uuid(), :tenant,
        'https://127.0.0.1:9/leaked', 'leaked', 'whsec_bGVha2VkbGVha2VkbGVha2VkbGVha2Vk') RETURNING id""",
    "delivery_id": """INSERT INTO webhook_deliveries (webhook_id, message_id, event, payload, state)
        VALUES (:webhook_id, 'leaked', 'job.completed', '{"data": {"mark": "leaked"}}', 'failed') RETURNING id""",
}
"""For each parameter of a path, what makes a row of a tenant's; those before it are there already."""
FURTHER = (
    """INSERT INTO outcomes (page_id, job_id, seq, fence, attempt, state, code, body)
       VALUES (:letter_id, :job_id, 1, 1, 1, 'dead', 'corrupt_file', '{"error": {"detail": "leaked"}}')""",
    """INSERT INTO attempts (page_id, fence, attempt, code, detail, thumbnail)
       VALUES (:letter_id, 1, 1, 'corrupt_file', 'leaked', 'leaked')""",
    "INSERT INTO job_errors (job_id, code, pages) VALUES (:job_id, 'corrupt_file', 1)",
    "INSERT INTO audit (tenant_id, actor, act, subject) VALUES (:tenant, 'leaked', 'leaked', 'leaked')",
    """INSERT INTO usage (job_id, day, tenant_id, pages)
       VALUES (:job_id, (now() AT TIME ZONE 'UTC')::date, :tenant, 424242)""",
    """INSERT INTO bucket_events (source_id, raw, identity, key, fault)
       VALUES (:source_id, 'leaked', 'leaked', 'leaked', 'leaked')""",
)
BODIES: Mapping[tuple[str, str], Any] = {
    ("POST", "/v1/webhooks/{webhook_id}/replay"): {"since": "2026-11-20T00:00:00Z"},
}
UNHURT = ("jobs", "items", "pages", "outcomes", "redrives", "api_keys", "uploads", "files", "batches", "event_sources",
          "bucket_rules", "exports", "webhooks", "webhook_deliveries")  # fmt: skip


@dataclass(frozen=True)
class Party:
    """A tenant with a client, and one of each thing that a path can name."""

    tenant: UUID
    http: httpx.Client
    ids: Mapping[str, Any]

    def path(self, template: str) -> str:
        return template.format_map({name: str(value) for name, value in self.ids.items()})


@pytest.fixture(scope="module")
def database(postgres_url: str, template: str) -> Iterator[Database]:
    """One for all routes."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE tenancy TEMPLATE {template}".encode())
    database = Database(f"{postgres_url.rpartition('/')[0]}/tenancy", application="test")
    yield database
    database.close()


@pytest.fixture(scope="module")
def served(database: Database, valkey_url: str) -> Iterator[Api]:
    settings = Settings(
        database_url=database.url.replace("+psycopg", ""),
        broker_url=valkey_url,
        store_url=f"http://{NOWHERE}",
        store_secret_key=SecretStr("secret"),
        store_timeout=1.0,
        heartbeat_timeout=3600.0,
    )
    worker = Worker(database)
    with serve(settings, "none") as api:
        yield api
    worker.stop()


@pytest.fixture(scope="module")
def keys(database: Database) -> tuple[str, str]:
    """Of two tenants, by which routes are asked; each may all but run the fleet."""
    with database.transaction() as session:
        for name in ("first", "second"):
            tenants.create(session, name)
        return tenants.create_key(session, tenant="first"), tenants.create_key(session, tenant="second")


@pytest.fixture
def parties(database: Database, served: Api, keys: tuple[str, str]) -> Iterator[tuple[Party, Party]]:
    """Whose ids they are, and who asks with them."""
    with served.client(keys[0]) as mine, served.client(keys[1]) as theirs:
        yield _party(database, "first", mine), _party(database, "second", theirs)


def _party(database: Database, name: str, http: httpx.Client) -> Party:
    with database.transaction() as session:
        tenant = tenants.named(session, name)
        ids: dict[str, Any] = {}
        for parameter, statement in EXAMPLES.items():
            ids[parameter] = session.execute(text(_plain(statement)), {"tenant": tenant, **ids}).scalar_one()
        for statement in FURTHER:
            session.execute(text(_plain(statement)), {"tenant": tenant, **ids})
    return Party(tenant, http, ids)


def _plain(statement: str) -> str:
    r"""The colons within JSON and casts are none of a parameter's."""
    return re.sub(r'(?<=["\'])(: )|(?<=[a-z)])(::)', lambda found: found[0].replace(":", "\\:"), statement)


def _body(method: str, path: str) -> Any:  # noqa: ANN401 (any JSON)
    """Something that the route takes."""
    if (method, path) in BODIES:
        return BODIES[method, path]
    content = DOCUMENT["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    examples: dict[str, Any] = content.get("application/json", {}).get("examples", {})
    return next((example["value"] for example in examples.values()), None)


def _ask(party: Party, method: str, template: str, path: str) -> httpx.Response:
    return party.http.request(method, path, json=_body(method, template))


def _rows(database: Database) -> Sequence[Sequence[Any]]:
    # That a key is in use is written down, aside.
    columns = {"api_keys": "id, name, scopes, expires_at, revoked_at"}
    queries = [f"SELECT {columns.get(table, '*')} FROM {table} ORDER BY 1" for table in UNHURT]  # noqa: S608
    with database.transaction() as session:
        return [session.execute(text(query)).all() for query in queries]


@pytest.mark.parametrize(("method", "route"), WITH_IDS)
def test_another_tenants_ids_are_found_nowhere(
    parties: tuple[Party, Party], database: Database, method: str, route: str
) -> None:
    owner, stranger = parties
    missing = set(re.findall(r"{(\w+)}", route)) - set(EXAMPLES)
    assert not missing, f"give an example of {missing}"
    before = _rows(database)
    paths = [owner.path(route)]
    if route.count("{") > 1:
        # The stranger's own thing first, and then one of the other's.
        parameters = re.findall(r"{(\w+)}", route)
        mixed = {**owner.ids, parameters[0]: stranger.ids[parameters[0]]}
        paths.append(route.format_map({name: str(value) for name, value in mixed.items()}))
    for path in paths:
        answer = _ask(stranger, method, route, path)
        assert answer.status_code == 404, (path, answer.text)
        problem = answer.json()
        # Batches and files have the errors of the API whose shape they have.
        assert problem.get("code") == "not_found" or problem["error"]["message"], answer.text
        assert MARK not in answer.text
    assert _rows(database) == before, "nothing of anybody's has changed"
    own = _ask(owner, method, route, paths[0])
    assert own.status_code not in (401, 403, 404, 405, 422), (own.status_code, own.text)


@pytest.mark.parametrize("path", LISTS)
def test_no_list_has_anything_of_another_tenants(
    parties: tuple[Party, Party], database: Database, path: str
) -> None:
    owner, stranger = parties
    with database.transaction() as session:
        for table in ("jobs", "api_keys", "redrives", "uploads", "files", "batches", "event_sources", "bucket_rules",
                      "webhooks", "audit", "usage"):  # fmt: skip
            clause = "tenant_id = :tenant" + (" AND name = 'leaked'" if table == "api_keys" else "")
            session.execute(text(f"DELETE FROM {table} WHERE {clause}"), {"tenant": stranger.tenant})  # noqa: S608
    known = {name: str(owner.ids[name]) for name in EXAMPLES}
    names = [parameter["name"] for parameter in DOCUMENT["paths"][path]["get"].get("parameters", [])]
    for params in ({}, *({name: known[name]} for name in names if name in known)):
        answer = stranger.http.get(path, params=params)
        assert answer.status_code in (200, 404), answer.text
        assert MARK not in answer.text
        assert "424242" not in answer.text
        assert not [value for value in known.values() if len(value) > 10 and value in answer.text]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/batches",
            {"input_file_id": "{file_id}", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        ),
        ("/v1/jobs", {"input": {"type": "uploads", "upload_ids": ["{upload_id}"]}}),
        ("/v1/jobs", {"input": {"type": "prefix", "prefix": ""}, "webhook_ids": ["{webhook_id}"]}),
    ],
)
def test_ids_in_a_body_are_no_back_door(
    parties: tuple[Party, Party], database: Database, path: str, body: dict[str, Any]
) -> None:
    owner, stranger = parties
    before = _rows(database)
    filled = re.sub(r"{(\w+)}", lambda found: str(owner.ids[found[1]]), str(body)).replace("'", '"')
    answer = stranger.http.post(path, content=filled, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404, 422), answer.text
    assert "endpoint" not in answer.text
    assert MARK not in answer.text
    assert _rows(database) == before


def test_filters_of_acts_meet_nothing_of_another_tenants(
    parties: tuple[Party, Party], database: Database
) -> None:
    owner, stranger = parties
    before = _rows(database)
    which = {"job_id": str(owner.ids["job_id"])}
    discard = {"filter": which, "expected_count": 0, "reason": "x"}
    assert stranger.http.post("/v1/dead-letters/discard", json=discard).json() == {"discarded": 0}
    redrive = stranger.http.post("/v1/redrives", json={"filter": which, "validate_only": True, "reason": "x"})
    assert MARK not in redrive.text
    assert redrive.status_code >= 400 or redrive.json()["pages"] == 0, redrive.text
    assert _rows(database) == before
