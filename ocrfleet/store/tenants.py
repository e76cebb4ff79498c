"""Tenants, and who calls: a key stands for its tenant and for what may be done with it."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.advice import ANOTHER_KEY
from ocrfleet.errors import JobStateConflict, NotFound, Unauthenticated
from ocrfleet.store import audit
from ocrfleet.store.idempotency import told_once

DEFAULT = "default"
LIMITS = ("pages_per_day", "bytes_per_day", "jobs_open", "requests_per_minute")
"""What a tenant may use; null is no limit."""
SHELL = "shell"
"""The actor of acts at the database itself, by the command line."""
_PREFIX = "ocrk"


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"
    ADMIN = "admin"
    FLEET = "fleet"


USUAL = (Scope.READ, Scope.SUBMIT, Scope.OPERATE, Scope.ADMIN)
"""Of keys that were made before there were scopes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: every query on a caller's behalf takes the tenant's id."""

    key_id: str
    tenant_id: UUID
    tenant: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None = None
    """The tenant's; None: any number."""
    buckets: tuple[str, ...] | None = None
    """The tenant's rights, as `ocrfleet.rights` has them; None: every bucket."""
    expires_at: datetime | None = None
    """The key's end; None: it has none."""


def create(
    session: Session,
    name: str,
    *,
    weight: float = 1.0,
    limits: Mapping[str, int | None] | None = None,
    buckets: Sequence[str] | None = None,
    by: tuple[UUID, str] | None = None,
    tenant_id: UUID | None = None,
) -> UUID:
    """Add a tenant, or find the one under this id; `weight` is its share of a busy fleet, `by` the tenant and key that ask.

    JobStateConflict: the name is taken.
    """
    members: dict[str, Any] = {"name": name, "weight": weight, **(limits or {}), "buckets": buckets}
    columns = ", ".join(("name", "weight", *(limit for limit in LIMITS if limit in members), "buckets"))
    values = ", ".join(f":{column}" for column in columns.split(", "))
    query = f"""
        INSERT INTO tenants (id, {columns}) VALUES (coalesce(:id, gen_random_uuid()), {values})
        ON CONFLICT DO NOTHING RETURNING id"""
    made = session.execute(text(query), {"id": tenant_id, **members}).scalar()
    if made is None:
        if tenant_id is not None and get(session, tenant_id) is not None:
            return tenant_id
        raise JobStateConflict(f"There is a tenant {name!r} already.")
    tenant, actor = by or (made, SHELL)
    audit.record(session, tenant, actor, "tenants.create", f"tenant:{made}", **members)
    return made


_SELECT = """
SELECT id, name, weight, pages_per_day, bytes_per_day, jobs_open, requests_per_minute, buckets, created_at
FROM tenants"""


def get(session: Session, tenant_id: UUID) -> RowMapping | None:
    """The tenant with its limits."""
    return session.execute(text(f"{_SELECT} WHERE id = :id"), {"id": tenant_id}).mappings().one_or_none()


def listing(session: Session, *, limit: int, after: str = "") -> Sequence[RowMapping]:
    """Tenants by name, from the one after `after`."""
    query = f"{_SELECT} WHERE name > :after ORDER BY name LIMIT :limit"
    return session.execute(text(query), {"after": after, "limit": limit}).mappings().all()


def change(
    session: Session,
    tenant_id: UUID,
    changes: Mapping[str, float | Sequence[str] | None],
    *,
    by: tuple[UUID, str] | None = None,
) -> RowMapping:
    """Set the weight, limits and buckets that are named; NotFound for an unknown tenant. `by` is the tenant and key that ask."""
    allowed = [name for name in ("weight", *LIMITS, "buckets") if name in changes]
    settings = ", ".join(f"{name} = :{name}" for name in allowed) or "weight = weight"
    query = f"UPDATE tenants SET {settings} WHERE id = :id RETURNING id"
    if session.execute(text(query), {**changes, "id": tenant_id}).scalar() is None:
        raise NotFound(f"There is no tenant {tenant_id}.")
    tenant, actor = by or (tenant_id, SHELL)
    audit.record(session, tenant, actor, "tenants.change", f"tenant:{tenant_id}", **changes)
    return session.execute(text(f"{_SELECT} WHERE id = :id"), {"id": tenant_id}).mappings().one()


def named(session: Session, name: str) -> UUID:
    """The tenant of this name; NotFound if there is none."""
    found = session.execute(text("SELECT id FROM tenants WHERE name = :name"), {"name": name}).scalar()
    if found is None:
        raise NotFound(f"there is no tenant {name!r}")
    return found


def create_key(
    session: Session,
    *,
    tenant: str = DEFAULT,
    name: str = "key",
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    request_id: UUID | None = None,
) -> str:
    """Add a key and return it, `ocrk_<id>_<secret>`: only its SHA-256 is kept. NotFound for an unknown tenant.

    Without `scopes` it has the usual ones. AnswerNotKept: the same request has made it, and nobody knows its secret.
    """
    key = new_key(request_id)
    if not adopt_key(session, key, tenant=tenant, name=name, scopes=scopes, expires_at=expires_at):
        raise told_once(f"the key {split(key)[0]}")
    return key


def new_key(request_id: UUID | None = None) -> str:
    """A key that nobody knows yet; of the same request it has the same id."""
    key_id = request_id.hex[:12] if request_id else secrets.token_hex(6)
    return f"{_PREFIX}_{key_id}_{secrets.token_hex(24)}"


def adopt_key(
    session: Session,
    key: str,
    *,
    tenant: str = DEFAULT,
    name: str,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> bool:
    """Let a key in that was made elsewhere; one that is known already only gets scopes, if it had none.

    Whether that changed anything.
    """
    key_id, secret = split(key)
    query = """
        INSERT INTO api_keys AS k (id, tenant_id, name, secret_sha256, scopes, expires_at)
        VALUES (:id, :tenant, :name, :digest, :scopes, :expires_at)
        ON CONFLICT (id) DO UPDATE SET scopes = excluded.scopes
        WHERE k.scopes = '{}' AND k.secret_sha256 = excluded.secret_sha256 RETURNING 1"""
    values: dict[str, Any] = {"id": key_id, "tenant": named(session, tenant), "name": name}
    values |= {
        "digest": _digest(secret),
        "scopes": [str(scope) for scope in scopes],
        "expires_at": expires_at,
    }
    return session.execute(text(query), values).scalar() is not None


def split(key: str) -> tuple[str, str]:
    """A key's id and secret, empty where it is malformed."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == _PREFIX and secret else ("", "")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def authenticate(session: Session, key: str) -> Caller:
    """The caller a key stands for. Unauthenticated says that it has ended only to whoever has its secret."""
    key_id, secret = split(key)
    query = """
        SELECT k.id, k.secret_sha256, k.scopes, k.revoked_at, k.expires_at, k.expires_at <= now() AS has_expired,
               t.id AS tenant_id, t.name, t.requests_per_minute, t.buckets
        FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.id = :id"""
    row = session.execute(text(query), {"id": key_id}).one_or_none()
    if row is None or not secrets.compare_digest(_digest(secret), bytes(row.secret_sha256)):
        raise Unauthenticated("The API key is malformed or unknown.")
    if row.revoked_at:
        raise _ended("was revoked", row.revoked_at)
    if row.has_expired:
        raise _ended("expired", row.expires_at)
    scopes = tuple(row.scopes) or tuple(map(str, USUAL))
    buckets = None if row.buckets is None else tuple(row.buckets)
    return Caller(row.id, row.tenant_id, row.name, scopes, row.requests_per_minute, buckets, row.expires_at)


def _ended(how: str, when: datetime) -> Unauthenticated:
    return Unauthenticated(f"The key {how} on {when.astimezone(UTC):%Y-%m-%d}.", next_step=ANOTHER_KEY)
