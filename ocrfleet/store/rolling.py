"""Rolling jobs: what rules take is appended to a job that stays open for a while, and is closed then.

What would open a job over its tenant's quota waits: events stay unhandled, and listings stand still.
"""

import math
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.documents import COUNTED, guess
from ocrfleet.rights import is_ours, readings
from ocrfleet.store import expansion, jobs, quotas, rights, rule_objects, rules
from ocrfleet.store.expansion import Expansion, NewItem
from ocrfleet.store.rule_objects import Found
from ocrfleet.store.rules import Rule

_SUFFIX = ".json"
"""Of what is written for each item (`output.per_item`)."""
_FILLING = """
open_until > now() AND listed_at IS NULL AND state IN ('queued', 'running', 'paused') AND purged_at IS NULL
AND items_total < :items"""
"""A condition on `jobs`: it takes further items."""
# A few of each source, so that what waits for a quota is passed over and holds up nobody else's. BETWEEN, since for
# an equality the planner would rather walk along the primary key, past all events of all sources.
_WAITING = f"""
WITH held AS MATERIALIZED (
    SELECT r.tenant_id, r.bucket, r.prefix, r.suffix FROM tenants q JOIN bucket_rules r ON r.tenant_id = q.id
    WHERE r.enabled AND {quotas.FULL} AND NOT EXISTS (SELECT 1 FROM jobs WHERE rule_id = r.id AND {_FILLING})
)
SELECT e.id FROM event_sources s CROSS JOIN LATERAL (
    SELECT id, bucket, key FROM bucket_events
    WHERE source_id BETWEEN s.id AND s.id AND handled_at IS NULL AND fault IS NULL ORDER BY source_id, id LIMIT :limit
) e
WHERE s.deleted_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM held h WHERE h.tenant_id = s.tenant_id AND h.bucket = e.bucket
      AND starts_with(e.key, h.prefix) AND right(e.key, length(h.suffix)) = h.suffix
)
ORDER BY e.id LIMIT :limit"""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an open job is closed, and which bucket is our own."""

    seconds: float
    items: int
    bucket: str


@dataclass(slots=True)
class Taken:
    """How many objects were taken, and which were left since their tenant may open no further job."""

    count: int = 0
    left: set[tuple[UUID, str, str, str]] = field(default_factory=set[tuple[UUID, str, str, str]])
    """Tenant, bucket, key and ETag."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A job that takes further items; its row is locked."""

    id: UUID
    input: Mapping[str, Any]
    options: Mapping[str, Any]
    cursor: Mapping[str, Any]
    items: int


class OwnOutputs:
    """What the rules themselves write to a bucket, so that no result is ever taken for an input."""

    def __init__(self, bucket: str, written: Iterable[tuple[UUID, str, str]], *, ours: bool) -> None:
        self._bucket = bucket
        self._written = [(owner, readings(inputs), readings(output)) for owner, inputs, output in written]
        self._ours = ours

    def include(self, tenant_id: UUID, key: str) -> bool:
        if self._ours and is_ours(self._bucket, key, self._bucket):
            return True
        return any(
            one.startswith(outputs)
            # Where inputs stand below the same prefix, or are another tenant's, results are told by their names.
            and (
                key.endswith(_SUFFIX)
                or (owner == tenant_id and not any(prefix.startswith(outputs) for prefix in inputs))
            )
            for one in readings(key)
            for owner, inputs, outputs in self._written
        )


def own_outputs(session: Session, buckets: Sequence[str], our_bucket: str) -> dict[str, OwnOutputs]:
    """By bucket, what rules write there, whether they are enabled or not: their jobs may still run."""
    query = """
        SELECT tenant_id, prefix, coalesce(job #>> '{output,bucket}', bucket) AS bucket, job #>> '{output,prefix}' AS output
        FROM bucket_rules
        WHERE job #>> '{output,per_item}' = 'true' AND coalesce(job #>> '{output,bucket}', bucket) = ANY(:buckets)"""
    rows = session.execute(text(query), {"buckets": list(buckets)}).all()
    return {
        bucket: OwnOutputs(
            bucket,
            [(row.tenant_id, row.prefix, row.output) for row in rows if row.bucket == bucket],
            ours=bucket == our_bucket,
        )
        for bucket in buckets
    }


def apply(session: Session, limits: Limits, limit: int = 500) -> int:
    """Apply rules to events that wait; returns how many are handled. For the leader.

    That an event is handled, and the items made of it, stand in one transaction.
    """
    ids = session.execute(text(_WAITING), {"limit": limit, "items": limits.items}).scalars().all()
    if not ids:
        return 0
    query = """
        SELECT e.id, s.tenant_id, e.bucket, e.key, e.etag, e.version_id, e.sequencer, e.happened_at
        FROM bucket_events e JOIN event_sources s ON s.id = e.source_id
        WHERE e.id = ANY(:ids) AND e.handled_at IS NULL ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED"""
    events = session.execute(text(query), {"ids": list(ids)}).all()
    told: dict[tuple[UUID, str], list[Found]] = {}
    for event in events:
        found = Found(event.key, event.etag, event.version_id, event.sequencer, event.happened_at)
        told.setdefault((event.tenant_id, event.bucket), []).append(found)
    concerned = rules.for_objects(
        session, list({tenant for tenant, _ in told}), list({bucket for _, bucket in told})
    )
    objects = {rule.id: told.get((rule.tenant_id, rule.bucket), []) for rule in concerned}
    left = take(session, [(rule, objects[rule.id]) for rule in concerned], limits).left
    handled = [e.id for e in events if (e.tenant_id, e.bucket, e.key, e.etag) not in left]
    query = "UPDATE bucket_events SET handled_at = now() WHERE id = ANY(:ids)"
    session.execute(text(query), {"ids": handled})
    return len(handled)


def take(session: Session, found: Sequence[tuple[Rule, Sequence[Found]]], limits: Limits) -> Taken:
    """Append to each locked rule's open job the objects that are its and that it had not taken.

    Of those that do not fit in, the first go into new jobs, as far as the tenant's quota lets it open them.
    """
    outputs = own_outputs(session, list({rule.bucket for rule, _ in found}), limits.bucket)
    held = rights.of_tenants(session, list({rule.tenant_id for rule, _ in found}), limits.bucket)
    # What is not permitted is not remembered: a later listing finds it, should it be then.
    may = [
        (rule, [one for one in objects if held[rule.tenant_id].may_read(rule.bucket, one.key)])
        for rule, objects in found
    ]
    new = [(rule, _news(session, rule, objects, outputs[rule.bucket])) for rule, objects in may]
    new = [(rule, objects) for rule, objects in new if objects]
    # All of them at once, since jobs are locked in ascending order.
    filling = _lock_open(session, [rule.id for rule, _ in new], limits)
    slots = quotas.slots(session, list({rule.tenant_id for rule, _ in new}))
    taken = Taken()
    for rule, objects in new:
        job = filling.get(rule.id)
        room = limits.items - job.items if job else 0
        fitting = _fitting(slots, rule.tenant_id, len(objects), room, limits)
        rule_objects.remember(session, rule.id, objects[:fitting])
        _append(session, rule, objects[:fitting], job, limits)
        taken.count += fitting
        taken.left |= {(rule.tenant_id, rule.bucket, one.key, one.etag) for one in objects[fitting:]}
    return taken


def _fitting(slots: MutableMapping[UUID, int], tenant: UUID, count: int, room: int, limits: Limits) -> int:
    """How many of so many objects can be taken; what jobs are to be opened for them is taken from the slots."""
    if tenant not in slots:
        return count
    opening = min(slots[tenant], max(0, math.ceil((count - room) / limits.items)))
    slots[tenant] -= opening
    return min(count, room + opening * limits.items)


def _news(session: Session, rule: Rule, objects: Sequence[Found], own: OwnOutputs) -> list[Found]:
    """Those of the objects that the locked rule is for and has not taken yet."""
    meant = [one for one in objects if rule.matches(one.key) and not own.include(rule.tenant_id, one.key)]
    return rule_objects.news(session, rule.id, meant)


def _lock_open(session: Session, rule_ids: Sequence[int], limits: Limits) -> dict[int, _Open]:
    """By rule, the job that is open and has room."""
    query = f"""
        SELECT rule_id, id, input, options, cursor, items_total FROM jobs
        WHERE rule_id = ANY(:rules) AND {_FILLING} ORDER BY id FOR NO KEY UPDATE"""
    rows = session.execute(text(query), {"rules": list(rule_ids), "items": limits.items}).all()
    return {row.rule_id: _Open(row.id, row.input, row.options, row.cursor, row.items_total) for row in rows}


def _append(
    session: Session, rule: Rule, objects: Sequence[Found], job: _Open | None, limits: Limits
) -> None:
    """Write items, a job full at a time."""
    rest = list(objects)
    while rest:
        job = job or _open(session, rule, limits)
        room = limits.items - job.items
        chunk, rest = rest[:room], rest[room:]
        ranged = "pages" in job.options
        items = [_item(job.items + n, rule.bucket, one, ranged=ranged) for n, one in enumerate(chunk)]
        at = Expansion(job.id, job.input, job.options, job.cursor)
        cursor = {"next": job.items + len(items)}
        expansion.write(session, at, cursor, items, listed=False, seconds=0.0)
        job = replace(job, cursor=cursor, items=job.items + len(items))
        if job.items >= limits.items:
            _close(session, [job.id])
            job = None


def _item(ordinal: int, bucket: str, found: Found, *, ranged: bool) -> NewItem:
    kind = guess(found.key)
    countable = ranged or kind is None or kind in COUNTED
    return NewItem(ordinal, bucket, found.key, found.etag, found.version_id, countable=countable)


def _open(session: Session, rule: Rule, limits: Limits) -> _Open:
    """A new job of the rule's, which nobody else sees yet."""
    query = "SELECT now() + make_interval(secs => :seconds)"
    until = session.execute(text(query), {"seconds": limits.seconds}).scalar_one()
    given = {"type": "rule", "rule": rule.name, "rule_id": rule.id, "bucket": rule.bucket}
    given |= {"prefix": rule.prefix, "suffix": rule.suffix}
    asked = rule.job
    job = jobs.NewJob(
        id=uuid4(),
        tenant_id=rule.tenant_id,
        task=asked["task"],
        input=given,
        prompt=asked.get("prompt"),
        options=asked.get("options"),
        labels=asked.get("labels"),
        priority=asked.get("priority", 0),
        output=asked.get("output"),
        webhook_ids=[UUID(one) for one in asked.get("webhook_ids", [])],
        rule_id=rule.id,
        open_until=until,
    )
    jobs.create(session, job)
    return _Open(job.id, given, job.options or {}, {}, 0)


def close_due(session: Session, limit: int = 100) -> int:
    """Close jobs that have been open long enough, so that they can complete; returns how many. For the leader."""
    query = """
        SELECT id FROM jobs WHERE open_until IS NOT NULL AND open_until <= now()
        ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"""
    due = list(session.execute(text(query), {"limit": limit}).scalars())
    if due:
        _close(session, due)
    return len(due)


def _close(session: Session, job_ids: Sequence[UUID]) -> None:
    """Locked jobs have their last item."""
    query = "UPDATE jobs SET open_until = NULL WHERE id = ANY(:ids)"
    session.execute(text(query), {"ids": list(job_ids)})
    jobs.advance(session, [jobs.Delta(job_id, listed=True) for job_id in sorted(job_ids)])
