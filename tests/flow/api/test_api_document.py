"""The OpenAPI document is complete: each operation has a summary, its errors by code, and an example; docs/api.md is true."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.idempotency import takes_key
from ocrfleet.errors import BY_CODE
from ocrfleet.settings import Settings

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
FOUND = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
NAMES = [f"{method} {path}" for method, path, _ in FOUND]
DOCS = Path(__file__).parents[3] / "docs" / "api.md"
each = pytest.mark.parametrize(("method", "path", "operation"), FOUND, ids=NAMES)


def examples(content: dict[str, Any]) -> Iterator[Any]:
    """Those of a media type: its own, or its model's."""
    if "example" in content:
        yield content["example"]
    yield from (example["value"] for example in content.get("examples", {}).values())
    for name in re.findall(r"'#/components/schemas/(\w+)'", str(content.get("schema", {}))):
        schema = DOCUMENT["components"]["schemas"][name]
        yield from schema.get("examples", [])
        if "example" in schema:
            yield schema["example"]


@each
def test_it_has_a_summary_and_says_more(method: str, path: str, operation: dict[str, Any]) -> None:
    del method
    assert operation["summary"]
    assert not operation["summary"].endswith(".")
    assert operation["operationId"]
    assert operation["tags"] or not path.startswith("/v1/")
    assert operation.get("description"), "what the handler's docstring says"


@each
def test_its_errors_are_documented_by_code(method: str, path: str, operation: dict[str, Any]) -> None:
    del method
    if not path.startswith("/v1/"):
        return
    assert {"401", "500"} <= set(operation["responses"])
    for status, answer in operation["responses"].items():
        if status >= "4":
            codes = {code for content in answer["content"].values() for code in content.get("examples", {})}
            assert codes, status
            assert codes <= set(BY_CODE), status


@each
def test_what_it_takes_and_gives_has_an_example(method: str, path: str, operation: dict[str, Any]) -> None:
    del method, path
    body = operation.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        assert list(examples(body["application/json"])), "of the request"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            for media, content in answer.get("content", {}).items():
                assert list(examples(content)), (status, media)


@each
def test_it_follows_the_conventions(method: str, path: str, operation: dict[str, Any]) -> None:
    given = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert "X-Request-Id" in given
    assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())
    assert ("Idempotency-Key" in given) == takes_key(method.upper(), path)
    assert ("304" in operation["responses"]) == ("If-None-Match" in given)
    facade = path in ("/v1/files", "/v1/batches")
    if "page_token" in given or "page_size" in given:
        assert {"page_token", "page_size"} <= set(given)
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    for name in re.findall(r"'#/components/schemas/(\w+)'", str(answer.get("schema", {}))):
        members = DOCUMENT["components"]["schemas"][name].get("properties", {})
        if members.get("data", {}).get("type") == "array" and not facade and "page_token" in given:
            assert "next_page_token" in members or name == "LetterGroups"


def test_names_are_used_once() -> None:
    names = [operation["operationId"] for _, _, operation in FOUND]
    assert len(set(names)) == len(names)


def test_docs_name_what_there_is() -> None:
    text = DOCS.read_text()
    templates = [re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)) for path in DOCUMENT["paths"]]
    for path in re.findall(r"(?:GET|POST|PATCH|DELETE) (/v1/[a-z{}/-]+)", text):
        assert any(template.fullmatch(path) for template in templates), path
    for code in re.findall(r"\d{3} `([a-z_]+)`", text):
        assert code in BY_CODE, code
