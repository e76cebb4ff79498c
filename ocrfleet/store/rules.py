"""Bucket rules: which objects of a bucket become pages of which jobs; and the listing of each rule's prefix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, RowMapping, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ocrfleet.store import audit, redrives
from ocrfleet.store.notify import WORK, notify
from ocrfleet.tables import bucket_rules


class NameTaken(Exception):  # noqa: N818 (it says what is wrong)
    """The tenant has another rule of that name."""


@dataclass(frozen=True, slots=True)
class NewRule:
    """What a caller asks for. `job` has task, prompt, options, output, priority, labels and webhook_ids of its jobs."""

    tenant_id: UUID
    name: str
    bucket: str
    prefix: str
    suffix: str
    job: Mapping[str, Any]
    enabled: bool
    rescan_seconds: int
    request_id: UUID | None = None
    """Of the request that asks, which may be sent again."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is applied."""

    id: int
    tenant_id: UUID
    name: str
    bucket: str
    prefix: str
    suffix: str
    job: Mapping[str, Any]
    enabled: bool
    cursor: Mapping[str, Any]

    def matches(self, key: str) -> bool:
        return key.startswith(self.prefix) and key.endswith(self.suffix) and not key.endswith("/")


_COLUMNS = "id, tenant_id, name, bucket, prefix, suffix, job, enabled, cursor"


def _rule(row: Row[Any]) -> Rule:
    return Rule(*row)


_SELECT = """
SELECT r.id, r.name, r.bucket, r.prefix, r.suffix, r.job, r.enabled, r.rescan_seconds, r.rescan_at, r.created_at,
       r.cursor ->> 'fault' AS rescan_fault,
       (SELECT j.id FROM jobs j WHERE j.rule_id = r.id AND j.open_until IS NOT NULL ORDER BY j.created_at DESC LIMIT 1)
           AS open_job_id
FROM bucket_rules r WHERE r.tenant_id = :tenant
"""


def subject(name: str) -> str:
    """How the audit names a rule."""
    return f"bucket_rule:{name}"


def create(session: Session, rule: NewRule, *, actor: str) -> int:
    """Add a rule, or find the one that the same request has made; its prefix is listed at once. NameTaken."""
    query = """
        INSERT INTO bucket_rules (tenant_id, name, bucket, prefix, suffix, job, enabled, rescan_seconds, request_id)
        VALUES (:tenant, :name, :bucket, :prefix, :suffix, CAST(:job AS jsonb), :enabled, :rescan, :request)
        ON CONFLICT DO NOTHING RETURNING id"""
    values = {
        "tenant": rule.tenant_id,
        "name": rule.name,
        "bucket": rule.bucket,
        "prefix": rule.prefix,
        "suffix": rule.suffix,
        "job": orjson.dumps(rule.job).decode(),
        "enabled": rule.enabled,
        "rescan": rule.rescan_seconds,
        "request": rule.request_id,
    }
    rule_id = session.execute(text(query), values).scalar()
    if rule_id is None:
        query = "SELECT id FROM bucket_rules WHERE tenant_id = :tenant AND request_id = :request"
        if (made := session.execute(text(query), values).scalar()) is not None:
            return made
        raise NameTaken
    audit.record(session, rule.tenant_id, actor, "create_bucket_rule", subject(rule.name), rule=rule_id)
    notify(session, WORK)
    return rule_id


def get(session: Session, tenant_id: UUID, rule_id: int) -> RowMapping | None:
    """The tenant's rule; None if there is none."""
    query = text(f"{_SELECT} AND r.id = :rule")
    return session.execute(query, {"tenant": tenant_id, "rule": rule_id}).mappings().one_or_none()


def listing(
    session: Session, tenant_id: UUID, *, limit: int, before: int | None = None, name: str | None = None
) -> Sequence[RowMapping]:
    """Rules, newest first, from the one after `before` (an id); all, or the one of that name."""
    query = f"""{_SELECT} AND r.id < coalesce(:before, r.id + 1) AND r.name = coalesce(:name, r.name)
        ORDER BY r.id DESC LIMIT :limit"""
    values = {"tenant": tenant_id, "before": before, "name": name, "limit": limit}
    return session.execute(text(query), values).mappings().all()


def lock(session: Session, tenant_id: UUID, rule_id: int) -> RowMapping | None:
    """The rule, locked before any job of it; None if there is none."""
    query = "SELECT * FROM bucket_rules WHERE id = :rule AND tenant_id = :tenant FOR NO KEY UPDATE"
    values = {"tenant": tenant_id, "rule": rule_id}
    return session.execute(text(query), values).mappings().one_or_none()


def change(session: Session, rule: RowMapping, changes: Mapping[str, Any], *, actor: str) -> None:
    """Change a locked rule; its prefix is listed anew, and its open job takes no more. NameTaken."""
    new = {name: value for name, value in changes.items() if value != rule[name]}
    if not new:
        return
    statement = update(bucket_rules).where(bucket_rules.c.id == rule["id"])
    afresh: dict[str, Any] = {"cursor": {}, "rescan_at": text("now()"), "leased_until": None}
    try:
        with session.begin_nested():
            session.execute(statement.values(**new, **afresh))
    except IntegrityError as exc:
        raise NameTaken from exc
    _close(session, rule["id"])
    before, new = _disclosed({name: rule[name] for name in new}), _disclosed(new)
    name = subject(rule["name"])
    audit.record(session, rule["tenant_id"], actor, "change_bucket_rule", name, before=before, after=new)
    notify(session, WORK)


def _disclosed(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: disclosed(value) if name == "job" else value for name, value in members.items()}


def disclosed(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job of a rule without the secret among its options."""
    options: Mapping[str, Any] = job.get("options") or {}
    return {**job, "options": redrives.disclosed(options)}


def kept(job: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The job that replaces the one before: a password that comes back as it was shown stays as it was."""
    options: dict[str, Any] = dict(job.get("options") or {})
    known: Mapping[str, Any] = before.get("options") or {}
    if options.get("password") == redrives.HIDDEN and "password" in known:
        options["password"] = known["password"]
    return {**job, "options": options}


def delete(session: Session, rule: RowMapping, *, actor: str) -> None:
    """Delete a locked rule, and what it remembers of objects. Its jobs stay; one that is open takes no more."""
    _close(session, rule["id"])
    session.execute(text("DELETE FROM bucket_rules WHERE id = :rule"), {"rule": rule["id"]})
    audit.record(session, rule["tenant_id"], actor, "delete_bucket_rule", subject(rule["name"]))
    notify(session, WORK)


def _close(session: Session, rule_id: int) -> None:
    """Let the leader close the rule's open job (`rolling.close_due`)."""
    query = """
        UPDATE jobs SET open_until = now() WHERE id IN (
            SELECT id FROM jobs WHERE rule_id = :rule AND open_until IS NOT NULL ORDER BY id FOR NO KEY UPDATE)"""
    session.execute(text(query), {"rule": rule_id})


def for_objects(session: Session, tenant_ids: Sequence[UUID], buckets: Sequence[str]) -> list[Rule]:
    """The tenants' enabled rules for these buckets, locked, ascending: nobody else makes jobs of them meanwhile."""
    query = f"""
        SELECT {_COLUMNS} FROM bucket_rules
        WHERE enabled AND bucket = ANY(:buckets) AND tenant_id = ANY(:tenants) ORDER BY id FOR NO KEY UPDATE"""
    values = {"tenants": list(tenant_ids), "buckets": list(buckets)}
    return [_rule(row) for row in session.execute(text(query), values)]


def lease(session: Session, seconds: float) -> Rule | None:
    """Take the rule whose prefix has waited longest to be listed; None if there is none."""
    query = f"""
        UPDATE bucket_rules SET leased_until = now() + make_interval(secs => :seconds) WHERE id = (
            SELECT id FROM bucket_rules
            WHERE enabled AND rescan_at <= now() AND (leased_until IS NULL OR leased_until <= now())
            ORDER BY greatest(rescan_at, leased_until) LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING {_COLUMNS}"""
    row = session.execute(text(query), {"seconds": seconds}).one_or_none()
    return None if row is None else _rule(row)


def relock(session: Session, rule: Rule) -> Rule | None:
    """The leased rule, locked; None if it has been changed or another goes on with it."""
    query = f"SELECT {_COLUMNS} FROM bucket_rules WHERE id = :rule AND enabled FOR NO KEY UPDATE"
    row = session.execute(text(query), {"rule": rule.id}).one_or_none()
    return rule if row is not None and _rule(row) == rule else None


def advance(session: Session, rule: Rule, cursor: Mapping[str, Any], seconds: float) -> None:
    """Move the cursor of a locked rule's listing, and renew the lease; 0 seconds give it back."""
    query = """
        UPDATE bucket_rules SET cursor = CAST(:cursor AS jsonb), leased_until = now() + make_interval(secs => :seconds)
        WHERE id = :rule"""
    values = {"rule": rule.id, "cursor": orjson.dumps(cursor).decode(), "seconds": seconds}
    session.execute(text(query), values)


def postpone(session: Session, rule: Rule, seconds: float) -> None:
    """Go on with a leased rule's listing later, from where its cursor stands."""
    query = """
        UPDATE bucket_rules SET leased_until = now() + make_interval(secs => :seconds)
        WHERE id = :rule AND leased_until IS NOT NULL"""
    session.execute(text(query), {"rule": rule.id, "seconds": seconds})


def finish(session: Session, rule: Rule, *, fault: str | None = None, after: float | None = None) -> None:
    """End a listing, for `fault` if there is one; the next is due in `after` or the rule's own seconds."""
    query = """
        UPDATE bucket_rules SET leased_until = NULL, cursor = CAST(:cursor AS jsonb),
               rescan_at = now() + make_interval(secs => coalesce(:after, rescan_seconds))
        WHERE id = :rule AND cursor = CAST(:before AS jsonb)"""
    cursor: dict[str, str] = {} if fault is None else {"fault": fault}
    values = {
        "rule": rule.id,
        "cursor": orjson.dumps(cursor).decode(),
        "before": orjson.dumps(rule.cursor).decode(),
        "after": after,
    }
    session.execute(text(query), values)
