"""Keys and tenants by the command line, at the database itself: it works before there is a key or an API."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ocrfleet.cli import build
from ocrfleet.db import Database
from ocrfleet.errors import Unauthenticated
from ocrfleet.settings import settings
from ocrfleet.store import tenants
from ocrfleet.store.tenants import USUAL, Caller, Scope


def call(database_url: str, state: Path, *arguments: str) -> tuple[int, str]:
    """In this process: each further one takes longer to import the command than to run it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OCRFLEET_DATABASE_URL", database_url)
        environment.setenv("OCRFLEET_STATE", str(state))
        settings.cache_clear()
        done = CliRunner().invoke(build(arguments), arguments, prog_name="ocrfleet")
    settings.cache_clear()
    return done.exit_code, done.stdout.strip() or done.stderr


def caller(database: Database, key: str) -> Caller:
    with database.transaction() as session:
        return tenants.authenticate(session, key)


def test_the_first_key_may_do_everything_later_ones_what_they_are_given(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    _, first = call(database_url, tmp_path, "keys", "create")
    _, second = call(database_url, tmp_path, "keys", "create")
    _, shown = call(
        database_url, tmp_path, "keys", "create", "--scope", "read", "--days", "1", "--name", "x", "--json"
    )
    third = json.loads(shown)
    found = [caller(database, key) for key in (first, second, third["key"])]
    assert [set(one.scopes) for one in found] == [set(Scope), set(USUAL), {"read"}]
    assert third["expires_at"]
    assert call(database_url, tmp_path, "keys", "revoke", third["id"])[0] == 0
    with pytest.raises(Unauthenticated, match="revoked"):
        caller(database, third["key"])
    _, table = call(database_url, tmp_path, "keys", "ls")
    assert [line.split()[0] for line in table.splitlines()] == [
        "ID",
        third["id"],
        *(k.split("_")[1] for k in (second, first)),
    ]
    assert "revoked" in table.splitlines()[1]
    assert call(database_url, tmp_path, "keys", "revoke", "none")[0] == 5


def test_tenants_are_made_and_changed(database_url: str, tmp_path: Path) -> None:
    status, tenant_id = call(
        database_url, tmp_path, "tenants", "create", "archive", "--weight", "2", "--pages-per-day", "500_000"
    )
    assert status == 0
    _, changed = call(
        database_url, tmp_path, "tenants", "set", "archive", "--pages-per-day", "none", "--jobs-open", "3"
    )
    row = json.loads(changed)
    assert (row["id"], row["weight"], row["pages_per_day"], row["jobs_open"]) == (tenant_id, 2.0, None, 3)
    _, listed = call(database_url, tmp_path, "tenants", "ls", "--json")
    assert [row["name"] for row in json.loads(listed)] == ["archive", "default"]


def test_a_tenants_buckets_are_named_and_lifted(database_url: str, tmp_path: Path) -> None:
    def buckets(*arguments: str) -> object:
        status, shown = call(database_url, tmp_path, "tenants", *arguments)
        assert status == 0, shown
        _, listed = call(database_url, tmp_path, "tenants", "ls", "--json")
        return {row["name"]: row["buckets"] for row in json.loads(listed)}["archive"]

    given = ("--bucket", "scans", "--bucket", "archive/2026/")
    assert buckets("create", "archive", *given) == ["scans", "archive/2026/"]
    assert "scans archive/2026/" in call(database_url, tmp_path, "tenants", "ls")[1]
    assert buckets("set", "archive", "--weight", "2") == ["scans", "archive/2026/"], "what is not named stays"
    assert buckets("set", "archive", "--bucket", "scans") == ["scans"]
    assert buckets("set", "archive", "--bucket", "all") is None


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("tenants", "set", "default"), 2),
        (("tenants", "set", "default", "--jobs-open", "many"), 2),
        (("tenants", "set", "default", "--bucket", "scans//a"), 2),
        (("tenants", "set", "default", "--bucket", "all", "--bucket", "scans"), 2),
        (("tenants", "set", "nobody", "--weight", "2"), 5),
        (("keys", "create", "--tenant", "nobody"), 5),
        (("keys", "create", "--scope", "all"), 2),
        (("migrate", "--grant", "nobody-here"), 5),
    ],
)
def test_a_wrong_call_is_refused(
    database_url: str, tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    assert call(database_url, tmp_path, *arguments)[0] == status
