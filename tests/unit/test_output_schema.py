"""Schemas from callers: what an engine can be bound to, and what is refused before it costs anything."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api import output_schema
from ocrfleet.errors import ValidationFailed

LIMIT = 64 * 1024


def objects(schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema or {}}, **more}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = objects(schema)
    return schema


def chain(length: int, *, backwards: bool) -> dict[str, Any]:
    links = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)} | {f"d{length}": {}}
    return objects({"$ref": "#/$defs/d0"}, **{"$defs": dict(reversed(links.items())) if backwards else links})


def doubling(times: int) -> dict[str, Any]:
    links: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(times)}
    return objects({"$ref": "#/$defs/d0"}, **{"$defs": links | {f"d{times}": {}}})


@pytest.mark.parametrize(
    "schema",
    [
        objects({"type": ["string", "null"], "default": None}),
        objects(**{"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://here/x"}),
        objects({"$ref": "#"}),
        objects({"$ref": "#/$defs/a~1b/anyOf/0"}, **{"$defs": {"a/b": {"anyOf": [{"type": "string"}]}}}),
        {"type": "object", "properties": {"$ref": {"type": "string"}, "$id": {}, "not": {"$ref": "#"}}},
        nested(15),
        chain(14, backwards=False),
        doubling(8),
    ],
)
def test_a_sound_schema_is_kept_as_it_is(schema: dict[str, Any]) -> None:
    assert output_schema.check(schema, LIMIT) == schema
    Draft202012Validator(schema).is_valid({"a": {"a": {}}})


@pytest.mark.parametrize(
    ("schema", "pointer", "word"),
    [
        ({"type": "object"}, "", "properties"),
        ({"type": ["object"], "properties": {"a": {}}}, "", '"object"'),
        (objects({"pattern": "("}), "/properties/a/pattern", "regex"),
        (objects({"pattern": "(a+)+$"}), "/properties/a/pattern", "not supported"),
        (objects({"patternProperties": {"^a": {}}}), "/properties/a/patternProperties", "not supported"),
        (objects(**{"$schema": "http://elsewhere/schema"}), "/$schema", "draft-07"),
        (objects(**{"$schema": 5}), "/$schema", "draft-07"),
        (objects({"$ref": "http://elsewhere/x"}), "/properties/a/$ref", "elsewhere"),
        (objects({"$ref": "x.json"}), "/properties/a/$ref", "x.json"),
        (objects({"$ref": "#anchor"}), "/properties/a/$ref", "anchor"),
        (objects({"$ref": "#/$defs/gone"}), "/properties/a/$ref", "gone"),
        (objects({"$ref": "#/type"}), "/properties/a/$ref", "no place"),
        (objects({"$ref": "#/required/7"}, required=["a"]), "/properties/a/$ref", "no place"),
        (objects({"$dynamicRef": "#x"}), "/properties/a/$dynamicRef", "only $ref"),
        (objects({"$id": "http://elsewhere/"}), "/properties/a/$id", "whole"),
        (objects(**{"$ref": "#"}), "", "without end"),
        (objects({"anyOf": [{"$ref": "#/properties/a"}]}), "/properties/a", "without end"),
        (objects({"dependentSchemas": {"x": {"$ref": "#/properties/a"}}}), "/properties/a", "without end"),
        (objects({"if": {"not": {"$ref": "#/properties/a"}}}), "/properties/a", "without end"),
        (objects({"const": 2**64}), "", "64-bit"),
        (objects({"const": "\0"}), "", "NUL"),
        (objects({"const": "\ud800"}), "", "UTF-8"),
        (objects({"minimum": float("nan")}), "/properties/a/minimum", "number"),
        (objects({"description": "x" * LIMIT}), "", str(LIMIT)),
    ],
)
def test_what_cannot_be_bound_to_is_refused_with_its_place(
    schema: dict[str, Any], pointer: str, word: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        output_schema.check(schema, LIMIT)
    (fault,) = caught.value.extra["errors"]
    assert fault["pointer"] == f"/output_schema{pointer}"
    assert word in fault["detail"]


@pytest.mark.parametrize(
    "schema",
    [nested(16), nested(400), chain(1500, backwards=False), chain(1500, backwards=True), doubling(13)],
)
def test_what_would_cost_too_much_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed, match=r"nested|over more than|Recursion limit"):
        output_schema.check(schema, LIMIT)
