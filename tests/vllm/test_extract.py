"""Output bound to a schema."""

from typing import Any

import pytest
from conftest import Running
from jsonschema import Draft202012Validator
from pages import request
from test_engine import everything

from ocrfleet.catalogue import Parameters
from worker.engines.base import PageRequest

WORD = {"type": "string", "pattern": "^[A-Za-z0-9 ]{1,8}$"}
"""Random bytes may be no characters, of which a grammar knows nothing: where any would do, some come out longer."""
SCHEMA = {
    "type": "object",
    "properties": {
        "number": WORD,
        "total": {"type": "integer", "minimum": 0, "maximum": 9999},
        "paid": {"type": "boolean"},
        "kind": {"enum": ["invoice", "receipt", "letter"]},
        "lines": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"name": WORD},
                "required": ["name"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["number", "total", "paid", "kind", "lines"],
    "additionalProperties": False,
}
SEEDS = 48


def extract(seed: int) -> PageRequest:
    """Another page, and another temperature: random weights, so that each writes something else."""
    return request(
        f"extract-{seed}",
        f"invoice {seed * 7919 % 10_000}|{'x' * (seed % 11)}",
        task="extract",
        parameters=Parameters(temperature=0.3 + seed % 5 / 4, top_p=0.95, max_tokens=400),
        options={"output_schema": SCHEMA},
    )


def test_schema_bound_output_validates_over_many_seeds(running: Running) -> None:
    results = running.run(everything(running, *(extract(seed) for seed in range(SEEDS))))
    validator = Draft202012Validator(SCHEMA)
    for result in results:
        assert not isinstance(result, Exception), result
        assert list(validator.iter_errors(result.fields)) == []
    assert len({str(result.fields) for result in results}) > SEEDS // 2


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": {"a": {"type": "string", "pattern": "^[0-9]{3}$"}}}]
)
def test_white_space_does_not_run_to_the_limit(running: Running, schema: dict[str, Any]) -> None:
    asked = request(
        "spaces",
        "page",
        task="extract",
        parameters=Parameters(temperature=0.0, max_tokens=200),
        options={"output_schema": schema | {"required": ["a"], "additionalProperties": False}},
    )
    (result,) = running.run(everything(running, asked))
    assert result.finish_reason == "stop"
    assert len(result.fields["a"]) == 3
