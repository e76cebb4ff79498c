"""Real servers for every test, started once: Postgres, Valkey and SeaweedFS in a folder of the session."""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from ocrfleet import blobs, db
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings

CORPUS = Path(__file__).parents[1].parent / "shared" / "corpus"
TEMPLATE = "template_fleet"


@pytest.fixture(scope="session")
def servers() -> Iterator[Fleet]:
    """They end with the session even if it is killed: their supervisor watches it."""
    # Not below pytest's own folder: another run closes that to the user of Postgres.
    with tempfile.TemporaryDirectory(prefix="ocrfleet-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with Fleet(Path(folder), services=()) as fleet:
            yield fleet


@pytest.fixture(scope="session")
def postgres_url(servers: Fleet) -> str:
    """The server's own database; tests of tables take `database`."""
    return servers.urls["postgres"]


@pytest.fixture(scope="session")
def valkey_url(servers: Fleet) -> str:
    return servers.urls["valkey"]


@pytest.fixture(scope="session")
def s3(servers: Fleet) -> Settings:
    """Settings of a client of the S3 server: its URL and keys."""
    environment = servers.environment
    return Settings(
        store_url=environment["OCRFLEET_STORE_URL"],
        store_access_key=environment["OCRFLEET_STORE_ACCESS_KEY"],
        store_secret_key=SecretStr(environment["OCRFLEET_STORE_SECRET_KEY"]),
    )


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Documents with ground truth; not part of the repository."""
    if not CORPUS.is_dir():
        pytest.skip(f"there is no {CORPUS}")
    return CORPUS


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """A database built by Alembic, to be cloned."""
    _admin(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    db.migrate(Settings(database_url=_named(postgres_url, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A fresh migrated database."""
    name = f"test_{secrets.token_hex(6)}"
    _admin(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(postgres_url, name)
    try:
        _admin(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")
    except psycopg.errors.InsufficientPrivilege:
        # An autovacuum worker is there, which only the plain form ends.
        _admin(postgres_url, f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def record(fleet: Fleet) -> Iterator[db.Database]:
    """The database of the module's own fleet."""
    record = db.Database(fleet.urls["postgres"], application="test")
    yield record
    record.close()


@pytest.fixture(scope="module")
def bucket(fleet: Fleet) -> blobs.Blobs:
    """The S3 server of the module's own fleet."""
    secret = fleet.environment["OCRFLEET_STORE_SECRET_KEY"]
    return blobs.connect(Settings(store_url=fleet.urls["s3"], store_secret_key=SecretStr(secret)))


@pytest.fixture
def database(database_url: str) -> Iterator[db.Database]:
    """A pool of connections to a fresh migrated database."""
    database = db.Database(database_url, application="test")
    yield database
    database.close()


def _named(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"


def _admin(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
