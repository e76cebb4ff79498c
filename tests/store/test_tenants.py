"""Tenants and keys: a key stands for its tenant, only its hash is kept, and a wrong one stands for nobody."""

import pytest
from builders import Record

from ocrfleet.errors import NotFound
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Caller


def caller(record: Record, key: str) -> Caller | None:
    with record.database.transaction() as session:
        return tenants.authenticate(session, key)


def new_key(record: Record, tenant: str = "default") -> str:
    with record.database.transaction() as session:
        return tenants.create_key(session, tenant=tenant)


def test_a_key_stands_for_its_tenant(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    mine, theirs = caller(record, new_key(record)), caller(record, new_key(record, "other"))
    assert mine is not None
    assert theirs is not None
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
    assert [caller(record, one) for one in wrong] == [None] * len(wrong)
    assert caller(record, key) is not None


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_a_revoked_or_expired_key_stands_for_nobody(record: Record, column: str) -> None:
    key, kept = new_key(record), new_key(record)
    values = {"id": key.split("_")[1]}
    record.run(f"UPDATE api_keys SET {column} = now() WHERE id = :id", **values)  # noqa: S608
    record.run("UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE id <> :id", **values)
    assert caller(record, key) is None
    assert caller(record, kept) is not None


def test_a_key_needs_its_tenant(record: Record) -> None:
    with pytest.raises(NotFound):
        new_key(record, "nobody")
