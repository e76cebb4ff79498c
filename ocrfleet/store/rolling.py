"""Rolling jobs: what rules take is appended to a job that stays open for a while, and is closed then."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.documents import COUNTED, guess
from ocrfleet.store import expansion, jobs, rules
from ocrfleet.store.expansion import Expansion, NewItem
from ocrfleet.store.rules import Rule

_SUFFIX = ".json"
"""Of what is written for each item (`output.per_item`)."""
OUR_PREFIXES = ("batches/", "exporting/", "exports/", "files/", "interactive/", "thumbnails/", "uploads/")
"""Of our own bucket: what is there came from us, or from a caller for a job of his own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an open job is closed, and which bucket is our own."""

    seconds: float
    items: int
    bucket: str


@dataclass(frozen=True, slots=True)
class Found:
    """A version of an object that an event or a listing has told of."""

    key: str
    etag: str
    version_id: str | None = None


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
        self._written = list(written)
        self._ours = ours

    def include(self, tenant_id: UUID, key: str) -> bool:
        if self._ours and key.startswith(OUR_PREFIXES):
            return True
        return any(
            key.startswith(output)
            # Where inputs stand below the same prefix, or are another tenant's, results are told by their names.
            and (key.endswith(_SUFFIX) or (owner == tenant_id and not inputs.startswith(output)))
            for owner, inputs, output in self._written
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
    """Apply rules to events that wait; returns how many there were. For the leader.

    That an event is handled, and the items made of it, stand in one transaction.
    """
    query = """
        SELECT e.id, s.tenant_id, e.bucket, e.key, e.etag, e.version_id
        FROM bucket_events e JOIN event_sources s ON s.id = e.source_id
        WHERE e.handled_at IS NULL AND e.fault IS NULL ORDER BY e.id LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED"""
    events = session.execute(text(query), {"limit": limit}).all()
    if not events:
        return 0
    told: dict[tuple[UUID, str], list[Found]] = {}
    for event in events:
        found = Found(event.key, event.etag, event.version_id)
        told.setdefault((event.tenant_id, event.bucket), []).append(found)
    concerned = rules.for_objects(
        session, list({tenant for tenant, _ in told}), list({bucket for _, bucket in told})
    )
    objects = {rule.id: told.get((rule.tenant_id, rule.bucket), []) for rule in concerned}
    take(session, [(rule, objects[rule.id]) for rule in concerned], limits)
    query = "UPDATE bucket_events SET handled_at = now() WHERE id = ANY(:ids)"
    session.execute(text(query), {"ids": [event.id for event in events]})
    return len(events)


def take(session: Session, found: Sequence[tuple[Rule, Sequence[Found]]], limits: Limits) -> int:
    """Append to each locked rule's open job the objects that are its and that it had not taken; returns how many."""
    outputs = own_outputs(session, list({rule.bucket for rule, _ in found}), limits.bucket)
    new = [(rule, _remember(session, rule, objects, outputs[rule.bucket])) for rule, objects in found]
    new = [(rule, objects) for rule, objects in new if objects]
    # All of them at once, since jobs are locked in ascending order.
    held = _lock_open(session, [rule.id for rule, _ in new], limits)
    for rule, objects in new:
        _append(session, rule, objects, held.get(rule.id), limits)
    return sum(len(objects) for _, objects in new)


def _remember(session: Session, rule: Rule, objects: Sequence[Found], own: OwnOutputs) -> list[Found]:
    """Those of the objects that the rule is for and has not taken yet; from now on it has."""
    meant = {
        (one.key, one.etag): one
        for one in objects
        if rule.matches(one.key) and not own.include(rule.tenant_id, one.key)
    }
    if not meant:
        return []
    query = """
        INSERT INTO rule_objects (rule_id, key, etag, version_id)
        SELECT :rule, key, etag, version_id FROM unnest(
            CAST(:keys AS text[]), CAST(:etags AS text[]), CAST(:versions AS text[])) AS o(key, etag, version_id)
        ON CONFLICT DO NOTHING RETURNING key, etag"""
    values = {
        "rule": rule.id,
        "keys": [one.key for one in meant.values()],
        "etags": [one.etag for one in meant.values()],
        "versions": [one.version_id for one in meant.values()],
    }
    taken = {(row.key, row.etag) for row in session.execute(text(query), values)}
    return [one for named, one in meant.items() if named in taken]


def _lock_open(session: Session, rule_ids: Sequence[int], limits: Limits) -> dict[int, _Open]:
    """By rule, the job that is open and has room."""
    query = """
        SELECT rule_id, id, input, options, cursor, items_total FROM jobs
        WHERE rule_id = ANY(:rules) AND open_until > now() AND listed_at IS NULL
          AND state IN ('queued', 'running', 'paused') AND purged_at IS NULL
        ORDER BY id FOR NO KEY UPDATE"""
    rows = session.execute(text(query), {"rules": list(rule_ids)}).all()
    return {
        row.rule_id: _Open(row.id, row.input, row.options, row.cursor, row.items_total)
        for row in rows
        if row.items_total < limits.items
    }


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
