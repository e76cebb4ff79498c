"""Requests and answers as the documentation shows them."""

from typing import Any

from pydantic import ConfigDict


def example(value: dict[str, Any]) -> ConfigDict:
    """The configuration of a model that is documented by this value."""
    return ConfigDict(json_schema_extra={"examples": [value]})


JOB_EXAMPLES: dict[str, Any] = {
    "prefix": {
        "summary": "Every JPEG under a prefix",
        "value": {
            "input": {"type": "prefix", "bucket": "scans", "prefix": "2026/", "include": ["*.jpg"]},
            "labels": {"batch": "nov"},
        },
    },
    "objects": {
        "summary": "Objects one by one",
        "value": {
            "input": {
                "type": "objects",
                "objects": [{"key": "a.pdf", "custom_id": "inv-17", "pages": "1-3"}, {"key": "b.png"}],
            },
            "task": "text",
        },
    },
    "manifest": {
        "summary": "A manifest of any length",
        "value": {
            "input": {"type": "manifest", "bucket": "scans", "key": "m.jsonl"},
            "task": "text",
            "options": {"pages": "1-3"},
            "priority": 5,
            "labels": {"batch": "nov"},
        },
    },
    "extract": {
        "summary": "Fields as JSON, bound to a schema",
        "value": {
            "input": {"type": "prefix", "bucket": "scans", "prefix": "invoices/"},
            "task": "extract",
            "output_schema": {
                "type": "object",
                "properties": {"number": {"type": "string"}, "total": {"type": ["number", "null"]}},
                "required": ["number", "total"],
                "additionalProperties": False,
            },
        },
    },
    "question": {
        "summary": "A question about every page",
        "value": {
            "input": {"type": "objects", "objects": [{"key": "letter.png"}]},
            "task": "question",
            "prompt": "Who signed this letter?",
            "options": {"parameters": {"max_tokens": 256}},
        },
    },
}
