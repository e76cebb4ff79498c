"""The cache of results as a worker uses it: what a result depends on, and which pages read and write it."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.catalogue import TASKS
from ocrfleet.db import Database
from ocrfleet.documents import Limits
from ocrfleet.settings import Settings
from ocrfleet.store import cache
from ocrfleet.store.pages import ClaimedPage
from worker.decode import Found
from worker.engines.base import UNKNOWN, EngineInfo
from worker.escalation import Plan

log = structlog.get_logger()

FORM = 1
"""Raised when pages are decoded, read or told in another way than before: no earlier result is found any more."""
OPTIONS = ("prompt_language", "target_language", "fields", "output_schema", "regions")
"""Of a page's options, those that its result depends on; its plan stands for `parameters`, its number for `pages`."""
ENGINE = (
    "max_pixels",
    "model_dtype",
    "max_model_len",
    "load_format",
    "fixed_output_tokens",
    "speculative_model",
    "speculative_tokens",
    "openai_url",
)
"""Of the settings, those by which one engine of a name reads otherwise than another."""
COSTS = ("max_document_pages", "render_timeout", "sandbox_memory")
"""Of the limits, those that no pixel depends on."""
DOUBTS = frozenset(
    {
        "low_confidence",
        "tail_trimmed",
        "json_repaired",
        "plain_paragraphs",
        "control_characters_removed",
        "regions_missing",
    }
)
"""Warnings of a result that another attempt may better: it is not kept."""


class ResultCache:
    """Without the database nothing is found in it."""

    def __init__(self, settings: Settings, limits: Limits, database: Database) -> None:
        self._on = settings.result_cache
        self._database = database
        pixels = {name: value for name, value in asdict(limits).items() if name not in COSTS}
        self._same = [pixels, {name: getattr(settings, name) for name in ENGINE}]

    def key(self, page: ClaimedPage, plan: Plan, engine: EngineInfo, sha256: str) -> bytes | None:
        """SHA-256 over all that the page's result depends on; None for one that has to be read.

        A page that was redriven, or failed by itself before, asks for another result than the one it would find.
        """
        refused = page.redriven or page.failures or page.all_options.get("cache") is False
        # A served model whose revision nobody knows may be another one tomorrow.
        if not self._on or refused or engine.revision == UNKNOWN:
            return None
        members = [
            [FORM, str(page.tenant_id), sha256, page.number],
            self._same,
            [engine.name, engine.model, engine.revision],
            asked(page, plan),
        ]
        return hashlib.sha256(orjson.dumps(members)).digest()

    def recall(
        self, page: ClaimedPage, plan: Plan, engine: EngineInfo, found: Found, sha256: str
    ) -> str | None:
        """The body of the page's earlier result, if there is one; blocking. What is to be kept will be under its key."""
        found.cache_key = self.key(page, plan, engine, sha256)
        if found.cache_key is None:
            return None
        with found.timed("cache"):
            return self._find(found.cache_key)

    def _find(self, key: bytes) -> str | None:
        try:
            with self._database.statement() as session:
                return cache.find(session, key)
        except SQLAlchemyError as exc:
            log.warning("cache_unread", error=str(exc))
            return None


def asked(page: ClaimedPage, plan: Plan) -> dict[str, Any]:
    """What the page asks of its engine."""
    options = page.all_options
    return {
        "task": page.task,
        "version": TASKS[page.task].version,
        "plan": asdict(plan),
        "prompt": page.prompt,
        "options": [options.get(name) for name in OPTIONS],
    }


def worth_keeping(page: ClaimedPage, warnings: Sequence[str]) -> bool:
    """Whether the page's result is one of a first attempt, and nothing speaks against it."""
    return page.attempt == 1 and DOUBTS.isdisjoint(warnings)
