"""Tenants and keys: a key stands for its tenant, only its hash is kept, and a wrong one stands for nobody."""

import pytest
from builders import Record
from sqlalchemy import text

from ocrfleet.advice import ANOTHER_KEY
from ocrfleet.errors import NotFound, Unauthenticated
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Caller

UNKNOWN = "The API key is malformed or unknown."


def caller(record: Record, key: str) -> Caller:
    with record.database.transaction() as session:
        # Dates are told in UTC, wherever the server stands.
        session.execute(text("SET LOCAL TIME ZONE 'America/New_York'"))
        return tenants.authenticate(session, key)


def new_key(record: Record, tenant: str = "default") -> str:
    with record.database.transaction() as session:
        return tenants.create_key(session, tenant=tenant)


def refusal(record: Record, key: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        caller(record, key)
    return caught.value


def test_a_key_stands_for_its_tenant(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    mine, theirs = caller(record, new_key(record)), caller(record, new_key(record, "other"))
    assert (mine.tenant_id, mine.tenant) == (record.tenant, "default")
    assert (theirs.tenant_id, theirs.tenant) == (other, "other")


def test_the_secret_is_kept_nowhere(record: Record) -> None:
    key = new_key(record)
    secret = key.rpartition("_")[2]
    (row,) = record.run("SELECT k::text AS whole FROM api_keys k")
    assert secret not in row.whole
    assert key.split("_")[1] in row.whole


def test_a_wrong_key_stands_for_nobody(record: Record) -> None:
    key, other = new_key(record), new_key(record)
    prefix, key_id, secret = key.split("_")
    wrong = [
        "",
        key_id,
        f"{prefix}_{key_id}",
        f"{prefix}_{key_id}_",
        f"{prefix}__{secret}",
        f"xxxx_{key_id}_{secret}",
        f"{prefix}_{key_id}_{secret[:-1]}",
        f"{prefix}_{key_id}_{other.split('_')[2]}",
        f"{prefix}_{'0' * 12}_{secret}",
    ]
    assert [refusal(record, one).detail for one in wrong] == [UNKNOWN] * len(wrong)
    assert caller(record, key)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ("expires_at = '2026-11-19T23:30:00-02:00'", "The key expired on 2026-11-20."),
        ("revoked_at = '2026-11-19T23:30:00-02:00'", "The key was revoked on 2026-11-20."),
        (
            "revoked_at = '2026-11-20T05:00:00Z', expires_at = '2026-11-18'",
            "The key was revoked on 2026-11-20.",
        ),
        (
            "revoked_at = '2026-11-20T05:00:00Z', expires_at = '2999-01-01'",
            "The key was revoked on 2026-11-20.",
        ),
    ],
)
def test_a_key_that_has_ended_says_so_only_to_who_has_its_secret(
    record: Record, ended: str, told: str
) -> None:
    key, kept = new_key(record), new_key(record)
    values = {"id": key.split("_")[1]}
    record.run(f"UPDATE api_keys SET {ended} WHERE id = :id", **values)  # noqa: S608
    record.run("UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE id <> :id", **values)
    error = refusal(record, key)
    assert (error.detail, error.extra) == (told, {"next_step": ANOTHER_KEY})
    guessed = refusal(record, key[:-1] + ("0" if key[-1] != "0" else "1"))
    assert (guessed.detail, guessed.extra) == (UNKNOWN, {})
    assert caller(record, kept)


def test_a_key_needs_its_tenant(record: Record) -> None:
    with pytest.raises(NotFound):
        new_key(record, "nobody")
