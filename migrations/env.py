"""Alembic's environment: the URL comes from `ocrfleet.db.migrate`, or from the settings on the command line."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from ocrfleet.db import driver_url
from ocrfleet.settings import settings
from ocrfleet.tables import metadata

LOCK = 0x6F637266  # "ocrf": two migrations at once wait for each other


def run() -> None:
    """Migrate in one transaction under an advisory lock."""
    url = context.config.attributes.get("url") or driver_url(settings().database_url)
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
        context.run_migrations()
    engine.dispose()


run()
