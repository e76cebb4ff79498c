"""Named values of a page: the model's JSON, read, repaired where that is safe, and held against its schema."""

import json
from typing import Any

from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from ocrfleet.errors import OutputInvalid, ValidationFailed
from worker.outputs import json_text

_LONGEST = 300
_OFFLINE: Registry[Any] = Registry()
"""References stay inside the schema: jsonschema's default would fetch a tenant's URLs."""


def parse(text: str, schema: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """The object, and whether it took a repair. Raises OutputInvalid, which names the place as a JSON pointer."""
    try:
        value, repaired = json_text.read(text.strip(), "{}")
    except json_text.NotJsonError as exc:
        raise _invalid("", "a JSON object", f"{exc} (character {exc.position})") from exc
    if isinstance(value, list) and len(value) == 1:  # type: ignore[arg-type]
        value, repaired = value[0], True  # type: ignore[assignment]
    if not isinstance(value, dict):
        raise _invalid("", "a JSON object", f"the answer is a JSON {type(value).__name__}")  # type: ignore[arg-type]
    members: dict[str, Any] = value  # type: ignore[assignment]
    if schema is not None:
        _validate(members, schema)
    return members, repaired


def _validate(value: dict[str, Any], schema: dict[str, Any]) -> None:
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        # The API has checked that it is a schema; doing so again takes forty times as long as the page's own check.
        # The error nearest to the top, as relevance orders them.
        error = max(kind(schema, registry=_OFFLINE).iter_errors(value), key=relevance, default=None)
    except Exception as exc:
        # What is no schema raises whatever its first misplaced value leads to.
        raise ValidationFailed(f"the output_schema cannot be used: {_short(str(exc))}") from exc
    if error is not None:
        rule = f"{error.validator}: {json.dumps(error.validator_value, ensure_ascii=False, default=str)}"
        raise _invalid(pointer(error), rule, error.message)


def pointer(error: ValidationError) -> str:
    """RFC 6901; empty for the whole value."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)
    return "".join(f"/{step}" for step in steps)


def _invalid(where: str, expected: str, found: str) -> OutputInvalid:
    return OutputInvalid(
        f"at {where or 'the top'}: expected {_short(expected)}; {_short(found)}",
        pointer=where,
        expected=_short(expected),
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
