"""From what the engine gave to what the record keeps: the body of a result line, free of characters it refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson

from ocrfleet.catalogue import TASKS
from ocrfleet.store.pages import ClaimedPage
from worker.decode import Loaded
from worker.engines.base import EngineInfo, PageResult, Region
from worker.escalation import Plan

MAX_PARTIAL = 64 * 1024
"""Characters kept of the output of an attempt that failed."""
PLAIN = "plain_paragraphs"
REMOVED = "control_characters_removed"


def body(
    page: ClaimedPage,
    plan: Plan,
    engine: EngineInfo,
    loaded: Loaded | None,
    result: PageResult,
    timings_ms: Mapping[str, int],
) -> tuple[str, Sequence[str]]:
    """The page's members of its result line, as JSON, and its warnings."""
    if plan.task != page.task:
        result = replace(result, markdown=result.text, warnings=(*result.warnings, PLAIN))
    members: dict[str, Any] = {
        "text": result.text,
        "markdown": result.markdown,
        "regions": None if result.regions is None else [_region(region) for region in result.regions],
        "fields": result.fields,
        "language": result.language,
        "confidence": result.confidence,
        "warnings": [*(loaded.warnings if loaded else ()), *result.warnings],
        "usage": dict(result.usage),
        "timings_ms": {**timings_ms, **result.timings_ms},
        "image": _image(loaded, result),
        "engine": engine.name,
        "model": engine.model,
        "revision": engine.revision,
        "task": page.task,
        "task_version": TASKS[page.task].version,
        "cache": "miss",
    }
    if page.failures:
        members["parameters"] = _parameters(plan)
    dumped, cleaned = _storable(members)
    return dumped, cleaned["warnings"]


def recalled(body: str, timings_ms: Mapping[str, int]) -> str:
    """A result that was kept, as that of another page that asks the same: its times are its own."""
    return orjson.dumps({**orjson.loads(body), "timings_ms": timings_ms, "cache": "hit"}).decode()


def parameters(plan: Plan, partial: str | None) -> str:
    """What the record keeps of an attempt that failed, as JSON: how it was tried, and the end of what came of it."""
    kept = _parameters(plan)
    return _storable(kept if partial is None else kept | {"partial": partial[-MAX_PARTIAL:]})[0]


def _parameters(plan: Plan) -> dict[str, Any]:
    return {"task": plan.task, **asdict(plan.parameters)}


def _region(region: Region) -> dict[str, Any]:
    members = {"text": region.text, "box": region.box, "confidence": region.confidence}
    return members if region.label is None else members | {"label": region.label}


def _image(loaded: Loaded | None, result: PageResult) -> dict[str, Any] | None:
    if loaded is None:
        return None
    height, width = loaded.pixels.shape[:2]
    if result.rotation % 180:
        width, height = height, width
    return {"width": width, "height": height, "sha256": loaded.sha256, "rotation": result.rotation}


def _storable(members: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """JSON that Postgres takes, and what is in it: no NUL, no lone surrogate.

    The rare text that has one is cleaned and marked.
    """
    try:
        dumped = orjson.dumps(members)
    except TypeError:
        dumped = None  # a lone surrogate
    if dumped is not None and b"\\u0000" not in dumped:
        return dumped.decode(), members
    cleaned = _clean(members)
    if orjson.dumps(cleaned) != dumped:  # not so where a backslash before "u0000" was read on the page
        cleaned.setdefault("warnings", []).append(REMOVED)
    return orjson.dumps(cleaned).decode(), cleaned


def _clean(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "ignore").decode()
    if isinstance(value, dict):
        members: dict[Any, Any] = value  # type: ignore[assignment]
        return {_clean(key): _clean(member) for key, member in members.items()}
    if isinstance(value, list | tuple):
        entries: list[Any] = list(value)  # type: ignore[arg-type]
        return [_clean(entry) for entry in entries]
    return value
