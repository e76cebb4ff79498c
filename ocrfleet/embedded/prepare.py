"""`python -m ocrfleet.embedded.prepare`: what a fleet needs before its services start: the schema, and its own key."""

import sys
from pathlib import Path

from ocrfleet import db
from ocrfleet.settings import Settings, settings
from ocrfleet.store import tenants


def prepare(config: Settings) -> None:
    """Migrate, and let the state folder's API key in; safe to repeat."""
    db.migrate(config)
    database = db.connect(config, "ocrfleet-prepare")
    with database.transaction() as session:
        tenants.adopt_key(
            session, config.api_key.get_secret_value(), name="state folder", scopes=tuple(tenants.Scope)
        )
    database.close()


if __name__ == "__main__":
    prepare(settings())
    # A file and its content, that say what was prepared: the next start may leave this out.
    if len(sys.argv) > 2:
        Path(sys.argv[1]).write_text(sys.argv[2])
