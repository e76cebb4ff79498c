"""Idempotency keys: a claim before the request is carried out, its answer after; repeats get that answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.errors import AnswerNotKept

LIFE = 24 * 3600.0
"""Seconds after which a key means nothing any more."""
STALE = 60.0
"""Seconds after which a claim that nobody renews is its next caller's."""
_SWEEP = 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry a request out. `resource_id` is that of what it makes, the same for whoever claims it next."""

    tenant_id: UUID
    key: str
    resource_id: UUID


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a key that somebody else claimed; `status` is None while it is being answered."""

    request_sha256: bytes
    status: int | None
    headers: Mapping[str, str]
    body: bytes | None
    """None where the answer had a secret."""


# A claim is taken over with the same request only, so that the id that it may have used already stays that request's.
_CLAIM = text("""
INSERT INTO idempotency_keys AS k (tenant_id, key, request_sha256, claimed_at)
VALUES (:tenant, :key, :request, now())
ON CONFLICT (tenant_id, key) DO UPDATE SET
    request_sha256 = excluded.request_sha256, claimed_at = now(), status = NULL, headers = '{}', body = NULL,
    created_at = CASE WHEN k.created_at < now() - make_interval(secs => :life) THEN now() ELSE k.created_at END,
    resource_id = CASE WHEN k.created_at < now() - make_interval(secs => :life) THEN gen_random_uuid()
                       ELSE k.resource_id END
WHERE k.created_at < now() - make_interval(secs => :life)
   OR (k.status IS NULL AND k.request_sha256 = excluded.request_sha256
       AND (k.claimed_at IS NULL OR k.claimed_at < now() - make_interval(secs => :stale)))
RETURNING k.resource_id
""")
_HELD = "tenant_id = :tenant AND key = :key AND resource_id = :resource AND status IS NULL"


def claim(session: Session, tenant_id: UUID, key: str, request_sha256: bytes) -> Claim | Kept:
    """Claim the key for this request, or tell what another has made of it."""
    values = {"tenant": tenant_id, "key": key, "request": request_sha256, "life": LIFE, "stale": STALE}
    resource_id = session.execute(_CLAIM, values).scalar()
    if resource_id is not None:
        return Claim(tenant_id, key, resource_id)
    query = """
        SELECT request_sha256, status, headers, body FROM idempotency_keys
        WHERE tenant_id = :tenant AND key = :key"""
    # The conflict has locked the row, so that nobody has taken it away.
    row = session.execute(text(query), {"tenant": tenant_id, "key": key}).one()
    return Kept(
        bytes(row.request_sha256), row.status, row.headers, None if row.body is None else bytes(row.body)
    )


def told_once(made: str) -> AnswerNotKept:
    """What a request is told that has made a secret before."""
    return AnswerNotKept(
        f"The request was carried out, and its answer had a secret that is shown once. It made {made}. If you have "
        "not got the secret, delete what was made or have it replaced."
    )


def renew(session: Session, held: Claim) -> None:
    """Say that the request is still being answered."""
    _update(session, held, "claimed_at = now()")


def keep(session: Session, held: Claim, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
    """Keep the answer for whoever repeats the request."""
    values = {"status": status, "headers": orjson.dumps(headers).decode(), "body": body}
    _update(session, held, "status = :status, headers = CAST(:headers AS jsonb), body = :body", **values)


def give_back(session: Session, held: Claim, *, made_nothing: bool) -> None:
    """Nothing worth keeping came of it: the same request may be sent again at once.

    Its row goes if it `made_nothing` and nobody has had the claim before, nor can have taken it over: what somebody
    else may have made is found by its `resource_id` alone.
    """
    if made_nothing:
        # A claim that is taken over or renewed is younger than its row.
        query = f"DELETE FROM idempotency_keys WHERE {_HELD} AND claimed_at = created_at"
        session.execute(text(query), _values(held))
    _update(session, held, "claimed_at = NULL")


def _update(session: Session, held: Claim, changes: str, **values: Any) -> None:
    session.execute(text(f"UPDATE idempotency_keys SET {changes} WHERE {_HELD}"), _values(held) | values)


def _values(held: Claim) -> dict[str, Any]:
    return {"tenant": held.tenant_id, "key": held.key, "resource": held.resource_id}


def sweep(session: Session) -> int:
    """Take away some keys that mean nothing any more; how many. Twice their life old, so that no claim meets it."""
    query = """
        DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM idempotency_keys WHERE created_at < now() - make_interval(secs => :age)
            ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED)) RETURNING 1"""
    return len(session.execute(text(query), {"age": 2 * LIFE, "limit": _SWEEP}).all())
