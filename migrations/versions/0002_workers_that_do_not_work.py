"""workers that do not work."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BEFORE = "state IN ('starting', 'ready', 'draining', 'stopped')"
AFTER = "state IN ('starting', 'ready', 'draining', 'stopped', 'refused', 'quarantined')"


def upgrade() -> None:
    op.drop_constraint(op.f("workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("workers_state"), "workers", AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM workers WHERE state IN ('refused', 'quarantined')")
    op.drop_constraint(op.f("workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("workers_state"), "workers", BEFORE)
