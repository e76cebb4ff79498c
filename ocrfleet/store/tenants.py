"""Tenants and their API keys."""

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.errors import NotFound

DEFAULT = "default"
_PREFIX = "ocrk"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: every query on a caller's behalf takes the tenant's id."""

    key_id: str
    tenant_id: UUID
    tenant: str
    scopes: tuple[str, ...]


def create(session: Session, name: str, *, weight: float = 1.0) -> UUID:
    """Add a tenant; `weight` is its share of a busy fleet."""
    query = "INSERT INTO tenants (name, weight) VALUES (:name, :weight) RETURNING id"
    return session.execute(text(query), {"name": name, "weight": weight}).scalar_one()


def create_key(session: Session, *, tenant: str = DEFAULT, name: str = "key") -> str:
    """Add a key and return it, `ocrk_<id>_<secret>`: only its SHA-256 is kept. NotFound for an unknown tenant."""
    key = f"{_PREFIX}_{secrets.token_hex(6)}_{secrets.token_hex(24)}"
    adopt_key(session, key, tenant=tenant, name=name)
    return key


def adopt_key(session: Session, key: str, *, tenant: str = DEFAULT, name: str) -> None:
    """Let a key in that was made elsewhere; one that is known already is left as it is."""
    tenant_id = session.execute(text("SELECT id FROM tenants WHERE name = :name"), {"name": tenant}).scalar()
    if tenant_id is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    key_id, secret = _split(key)
    query = """
        INSERT INTO api_keys (id, tenant_id, name, secret_sha256) VALUES (:id, :tenant, :name, :digest)
        ON CONFLICT DO NOTHING"""
    values = {"id": key_id, "tenant": tenant_id, "name": name, "digest": _digest(secret)}
    session.execute(text(query), values)


def _split(key: str) -> tuple[str, str]:
    """A key's id and secret, empty where it is malformed."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == _PREFIX and secret else ("", "")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def authenticate(session: Session, key: str) -> Caller | None:
    """The caller a key stands for; None if it is malformed, unknown, expired or revoked."""
    key_id, secret = _split(key)
    query = """
        SELECT k.id, k.secret_sha256, k.scopes, t.id AS tenant_id, t.name
        FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
        WHERE k.id = :id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())"""
    row = session.execute(text(query), {"id": key_id}).one_or_none()
    if row is None or not secrets.compare_digest(_digest(secret), bytes(row.secret_sha256)):
        return None
    return Caller(row.id, row.tenant_id, row.name, tuple(row.scopes))
