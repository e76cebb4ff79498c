"""Keys: their scopes, their end, their last use; and that each act on them is written down."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from builders import Record

from ocrfleet.errors import JobStateConflict, NotFound, Unauthenticated
from ocrfleet.store import audit, keys, tenants
from ocrfleet.store.tenants import USUAL, Scope


@pytest.fixture
def other(record: Record) -> UUID:
    with record.database.transaction() as session:
        return tenants.create(session, "other")


def acts(record: Record, tenant: UUID) -> list[tuple[str, str, str]]:
    with record.database.transaction() as session:
        rows = audit.listing(session, tenant, limit=9)
    return [(row["actor"], row["act"], row["subject"]) for row in rows]


def test_a_key_is_made_seen_and_revoked_and_each_act_is_written_down(record: Record, other: UUID) -> None:
    with record.database.transaction() as session:
        key, made = keys.create(session, record.tenant, "me", name="import", scopes=[Scope.READ])
    assert made["scopes"] == ["read"]
    with record.database.transaction() as session:
        assert tenants.authenticate(session, key).scopes == ("read",)
        assert keys.get(session, other, made["id"]) is None
    with pytest.raises(NotFound), record.database.transaction() as session:
        keys.revoke(session, other, made["id"], actor="them")
    for _ in range(2):
        with record.database.transaction() as session:
            row = keys.revoke(session, record.tenant, made["id"], actor="me")
    assert row["revoked_at"]
    with pytest.raises(Unauthenticated, match="revoked"), record.database.transaction() as session:
        tenants.authenticate(session, key)
    subject = f"key:{made['id']}"
    assert acts(record, record.tenant) == [("me", "keys.revoke", subject), ("me", "keys.create", subject)]


def test_older_keys_have_the_usual_scopes(record: Record) -> None:
    with record.database.transaction() as session:
        key = tenants.create_key(session)
        caller = tenants.authenticate(session, key)
        (row,) = keys.listing(session, record.tenant, limit=9)
    assert caller.scopes == tuple(USUAL)
    assert row["scopes"] == list(USUAL)
    assert Scope.FLEET not in caller.scopes


def test_a_known_key_gets_scopes_only_if_it_had_none(record: Record) -> None:
    key = tenants.new_key()
    for scopes, has in (((), set(USUAL)), (tuple(Scope), set(Scope)), ((Scope.READ,), set(Scope))):
        with record.database.transaction() as session:
            tenants.adopt_key(session, key, name="state folder", scopes=scopes)
            caller = tenants.authenticate(session, key)
        assert set(caller.scopes) == has
    forged = key[:-1] + ("0" if key[-1] != "0" else "1")
    record.run("UPDATE api_keys SET scopes = '{}'")
    with record.database.transaction() as session:
        tenants.adopt_key(session, forged, name="x", scopes=tuple(Scope))
    assert record.scalar("SELECT scopes FROM api_keys") == []


def test_the_last_use_is_written_once_a_minute(record: Record) -> None:
    with record.database.transaction() as session:
        key_id, _ = tenants.split(tenants.create_key(session))

    def touch() -> datetime:
        with record.database.statement() as session:
            keys.touch(session, key_id)
        return record.scalar("SELECT last_used_at FROM api_keys")

    first = touch()
    assert touch() == first
    record.run("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
    assert touch() > first


def test_keys_are_listed_newest_first_page_by_page(record: Record, other: UUID) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    made: list[str] = []
    for tenant in (record.tenant, other, record.tenant, record.tenant):
        with record.database.transaction() as session:
            made.append(
                keys.create(session, tenant, "me", name="x", scopes=["read"], expires_at=ends)[1]["id"]
            )
    with record.database.transaction() as session:
        first = keys.listing(session, record.tenant, limit=2)
        last = first[-1]
        rest = keys.listing(session, record.tenant, limit=9, before=(last["created_at"], last["id"]))
        everybody = keys.listing(session, None, limit=9)
    assert [row["id"] for row in (*first, *rest)] == [made[3], made[2], made[0]]
    assert [row["id"] for row in everybody] == made[::-1]
    assert {row["expires_at"] for row in everybody} == {ends}


def test_tenants_are_made_listed_and_changed_and_each_act_is_written_down(record: Record) -> None:
    by = (record.tenant, "operator")
    with record.database.transaction() as session:
        made = tenants.create(session, "archive", weight=2.0, limits={"jobs_open": 3}, by=by)
        assert [row["name"] for row in tenants.listing(session, limit=9)] == ["archive", "default"]
        assert [row["name"] for row in tenants.listing(session, limit=9, after="archive")] == ["default"]
        row = tenants.change(session, made, {"weight": 0.5, "jobs_open": None, "pages_per_day": 7}, by=by)
    assert (row["weight"], row["jobs_open"], row["pages_per_day"]) == (0.5, None, 7)
    subject = f"tenant:{made}"
    assert acts(record, record.tenant) == [
        ("operator", "tenants.change", subject),
        ("operator", "tenants.create", subject),
    ]
    with pytest.raises(JobStateConflict), record.database.transaction() as session:
        tenants.create(session, "archive")
    with pytest.raises(NotFound), record.database.transaction() as session:
        tenants.change(session, UUID(int=0), {"weight": 1.0})
