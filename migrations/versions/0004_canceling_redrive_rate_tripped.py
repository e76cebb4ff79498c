"""the index of jobs being canceled, when a redrive goes on, and workers that have tripped."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CANCELING = sa.text("state = 'canceling'")
WORKERS = "state IN ('starting', 'ready', 'draining', 'stopped', 'refused', 'quarantined')"
WORKERS_TRIPPED = "state IN ('starting', 'ready', 'draining', 'tripped', 'stopped', 'refused', 'quarantined')"


def upgrade() -> None:
    op.create_index("jobs_canceling", "jobs", ["id"], postgresql_where=CANCELING)
    next_at = sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
    op.add_column("redrives", next_at)
    op.drop_constraint(op.f("workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("workers_state"), "workers", WORKERS_TRIPPED)


def downgrade() -> None:
    op.execute("UPDATE workers SET state = 'draining' WHERE state = 'tripped'")
    op.drop_constraint(op.f("workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("workers_state"), "workers", WORKERS)
    op.drop_column("redrives", "next_at")
    op.drop_index("jobs_canceling", "jobs")
