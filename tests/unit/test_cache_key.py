"""Keys of the cache: what a result depends on makes another key, what it does not depend on makes none."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import pytest
from fleet_builders import claimed_page

from api.schemas import JobOptions, ObjectOptions, PageParameters
from ocrfleet.catalogue import TASKS
from ocrfleet.db import Database
from ocrfleet.documents import Limits
from ocrfleet.settings import Settings
from worker import escalation
from worker.cache import COSTS, DOUBTS, OPTIONS, ResultCache, asked, worth_keeping
from worker.decode import Found
from worker.engines.base import UNKNOWN, EngineInfo

ENGINE = EngineInfo("vllm", "tencent/HunyuanOCR", "4f2a", tuple(TASKS), 64)
SHA256 = "ab" * 32
NOWHERE = Database("postgresql://127.0.0.1:1/none", application="test")


def key(
    *,
    settings: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    sha256: str = SHA256,
    **page: Any,
) -> bytes | None:
    config = Settings(**settings or {})
    given = claimed_page(**{"task": "extract", "options": {"fields": ["total"]}, **page})
    cache = ResultCache(config, replace(Limits.of(config), **limits or {}), NOWHERE)
    plan = escalation.plan(given, config.max_pixels)
    return cache.key(given, plan, replace(ENGINE, **engine or {}), sha256)


USUAL = key()


def test_a_key_is_a_digest_and_the_same_each_time() -> None:
    assert USUAL is not None
    assert len(USUAL) == 32
    assert key() == USUAL


@pytest.mark.parametrize(
    "other",
    [
        {"tenant_id": UUID(int=3)},
        {"sha256": "cd" * 32},
        {"number": 2},
        {"task": "value"},
        {"prompt": "What is the total?"},
        {"options": {"fields": ["total", "date"]}},
        {"options": {"fields": ["total"], "prompt_language": "en"}},
        {"options": {"fields": ["total"], "regions": True}},
        {"options": {"fields": ["total"], "parameters": {"temperature": 0.1}}},
        {"options": {"fields": ["total"], "parameters": {"max_pixels": 300_000}}},
        {"options": {"output_schema": {"type": "object", "properties": {"total": {}}}}},
        {"task": "translate", "options": {"target_language": "zh"}},
        {"item_options": {"prompt_language": "en"}},
        {"engine": {"name": "openai"}},
        {"engine": {"model": "tencent/HunyuanOCR-2"}},
        {"engine": {"revision": "5b11"}},
        {"settings": {"max_pixels": 2_000_000}},
        {"settings": {"model_dtype": "float32"}},
        {"settings": {"max_model_len": 8192}},
        {"settings": {"load_format": "dummy"}},
        {"settings": {"speculative_model": "draft"}},
        {"limits": {"render_dpi": 150}},
        {"limits": {"render_max_pixels": 1_000_000}},
        {"limits": {"max_page_pixels": 50_000_000}},
        {"limits": {"min_image_side": 8}},
    ],
    ids=str,
)
def test_all_that_a_result_depends_on_makes_another_key(other: dict[str, Any]) -> None:
    found = key(**other)
    assert found is not None
    assert found != USUAL


def test_the_version_of_the_task_is_asked_for() -> None:
    for task in TASKS.values():
        page = claimed_page(task=task.name)
        assert asked(page, escalation.plan(page, 1_000_000))["version"] == task.version


def test_a_translation_asks_for_its_language() -> None:
    languages = [key(task="translate", options={"target_language": to}) for to in ("en", "zh")]
    assert languages[0] != languages[1]


@pytest.mark.parametrize(
    "other",
    [
        {"id": 7, "fence": 9, "item_id": 8, "job_id": UUID(int=9)},
        {"bucket": "other", "key": "b.tiff", "etag": "e", "version_id": "v", "page_count": 3},
        {"options": {"fields": ["total"], "password": "secret", "pages": "1-3", "cache": True}},
        {"item_options": {"password": "secret", "pages": "2"}},
        {"attempt": 3, "losses": 1, "queued_ms": 100_000},
        {
            "settings": {
                "slots": 3,
                "gpu_memory_utilization": 0.5,
                "max_sequences": 3,
                "inference_timeout": 9.0,
            }
        },
        {"limits": dict.fromkeys(COSTS, 7)},
    ],
    ids=str,
)
def test_nothing_else_does(other: dict[str, Any]) -> None:
    assert key(**other) == USUAL


def test_every_option_and_every_limit_is_known_to_matter_or_not() -> None:
    """An option that is added must be put on one side or the other; a limit matters unless it is named."""
    asked = set(JobOptions.model_fields) | set(ObjectOptions.model_fields)
    assert asked == (set(OPTIONS) - set(PageParameters.model_fields)) | {
        "parameters",
        "password",
        "pages",
        "cache",
    }
    assert set(COSTS) < {field.name for field in fields(Limits)}


@pytest.mark.parametrize(
    "given",
    [
        {"redriven": True},
        {"failures": 1, "codes": ("output_invalid",)},
        {"options": {"fields": ["total"], "cache": False}},
        {"engine": {"revision": UNKNOWN}},
        {"settings": {"result_cache": False}},
    ],
    ids=str,
)
def test_these_have_to_be_read(given: dict[str, Any]) -> None:
    assert key(**given) is None


def test_without_the_database_nothing_is_found() -> None:
    config, page, found = Settings(), claimed_page(), Found()
    cache = ResultCache(config, Limits.of(config), NOWHERE)
    assert cache.recall(page, escalation.plan(page, 1_000_000), ENGINE, found, SHA256) is None
    assert found.cache_key is not None, "what comes of it may be kept"
    assert "cache" in found.timings_ms


def test_only_clean_results_of_first_attempts_are_worth_keeping() -> None:
    assert worth_keeping(claimed_page(attempt=1), ["blank_page", "low_resolution", "first_frame_only"])
    assert not worth_keeping(claimed_page(attempt=2), [])
    for doubt in DOUBTS:
        assert not worth_keeping(claimed_page(attempt=1), ["low_resolution", doubt])
    assert {
        "low_confidence",
        "tail_trimmed",
        "json_repaired",
        "plain_paragraphs",
        "control_characters_removed",
        "regions_missing",
    } == DOUBTS
