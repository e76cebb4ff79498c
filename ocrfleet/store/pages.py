"""Claiming: a worker leases pages by primary key, under the fences of its message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import EXCLUSIVE_AFTER

Lease = tuple[int, int]
"""Page id and fence: a page, as long as nobody else gets it."""


@dataclass(frozen=True, slots=True)
class ClaimedPage:
    """A page this worker leases, with all it needs to read it."""

    id: int
    fence: int
    number: int
    item_id: int
    job_id: UUID
    tenant_id: UUID
    attempt: int
    failures: int
    losses: int
    queued_ms: int
    bucket: str
    key: str
    etag: str | None
    version_id: str | None
    page_count: int | None
    """None: the item's pages are not known yet, since its name spoke of a single image."""
    item_options: Mapping[str, Any] | None
    task: str
    prompt: str | None
    options: Mapping[str, Any]
    redriven: bool = False
    """Somebody asked for it to be read again."""
    override: Mapping[str, Any] | None = None
    """The options of the redrive that brought it back."""
    proofs: int = 0
    """Processes that this page has ended while it ran alone, since its last redrive."""
    codes: Sequence[str] = ()
    """What its earlier attempts failed with, oldest first."""
    member: str | None = None
    """The path within the object, where that is an archive."""
    buckets: Sequence[str] | None = None
    """Those that the tenant has a right to, where the page is redriven; None: every bucket."""

    @property
    def lease(self) -> Lease:
        return self.id, self.fence

    @property
    def all_options(self) -> dict[str, Any]:
        """The job's options, over them the item's and the redrive's: the last wins, parameter by parameter."""
        merged: dict[str, Any] = {}
        parameters: dict[str, Any] = {}
        for options in (self.options, self.item_options or {}, self.override or {}):
            merged.update(options)
            parameters.update(options.get("parameters") or {})
        return {**merged, "parameters": parameters} if parameters else merged


_CLAIM = text("""
WITH due AS (
    SELECT p.id, p.redrive_id FROM pages p JOIN unnest(CAST(:ids AS bigint[]), CAST(:fences AS integer[])) AS d(id, fence)
        ON p.id = d.id AND p.fence = d.fence
    WHERE p.state = 'dispatched' ORDER BY p.id FOR NO KEY UPDATE OF p
)
UPDATE pages p SET state = 'running', incarnation = :incarnation, since = now(),
    attempt = least(p.attempt + 1, 32767)
FROM due LEFT JOIN redrives r ON r.id = due.redrive_id, items i, jobs j
WHERE p.id = due.id AND i.id = p.item_id AND j.id = p.job_id
  AND j.state IN ('queued', 'running') AND (j.deadline IS NULL OR j.deadline > now())
RETURNING p.id, p.fence, p.number, p.item_id, p.job_id, j.tenant_id, p.attempt, p.failures, p.losses,
    CAST(least(extract(epoch FROM now() - p.not_before) * 1000, 2147483647) AS integer) AS queued_ms,
    i.bucket, i.key, i.etag, i.version_id, i.page_count, i.options AS item_options, j.task, j.prompt, j.options,
    p.redrive_id IS NOT NULL AS redriven, r.override,
    CASE WHEN p.losses < :exclusive THEN 0 ELSE (
        SELECT count(*) FROM attempts a
        WHERE a.page_id = p.id AND a.exclusive = 1 AND a.code IN ('worker_lost', 'engine_crashed')
          AND (r.id IS NULL OR a.ended_at > r.created_at)
    ) END AS proofs,
    CASE WHEN p.failures = 0 THEN ARRAY[]::text[] ELSE ARRAY(
        SELECT a.code FROM attempts a WHERE a.page_id = p.id ORDER BY a.fence
    ) END AS codes, i.member,
    CASE WHEN p.redrive_id IS NOT NULL THEN (SELECT t.buckets FROM tenants t WHERE t.id = j.tenant_id) END AS buckets
""")


def claim(session: Session, incarnation: UUID, pages: Sequence[tuple[int, int]]) -> list[ClaimedPage]:
    """Lease the pages still dispatched under these fences; the others are skipped."""
    values = {
        "ids": [page for page, _ in pages],
        "fences": [fence for _, fence in pages],
        "incarnation": incarnation,
        "exclusive": EXCLUSIVE_AFTER,
    }
    return [ClaimedPage(*row) for row in session.execute(_CLAIM, values)]
