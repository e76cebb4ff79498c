"""job control, dead letters, redrives, audit, and the cache of results."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DEAD = sa.text("state = 'dead' AND discarded_at IS NULL")
REDRIVEN = sa.text("redrive_id IS NOT NULL")
UNFINISHED = sa.text("finished_at IS NULL")
PURGED = sa.text("purged_at IS NOT NULL")


def _time(name: str, *, null: bool = True) -> sa.Column[Any]:
    default = None if null else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, server_default=default)


def upgrade() -> None:
    op.add_column("jobs", _time("purged_at"))
    op.create_index("jobs_purged", "jobs", ["purged_at"], postgresql_where=PURGED)
    op.add_column("pages", sa.Column("redrive_id", sa.BigInteger()))
    op.create_index("pages_redriven", "pages", ["redrive_id"], postgresql_where=REDRIVEN)
    for name in ("worker", "device", "model", "revision", "thumbnail"):
        op.add_column("attempts", sa.Column(name, sa.Text()))
    op.add_column("attempts", sa.Column("timings_ms", postgresql.JSONB(), nullable=False, server_default="{}"))
    op.add_column("outcomes", _time("discarded_at"))
    op.create_check_constraint(op.f("outcomes_discarded"), "outcomes", "discarded_at IS NULL OR state = 'dead'")
    newest = [sa.text("created_at DESC"), sa.text("page_id DESC")]
    op.create_index("outcomes_dead_letters", "outcomes", newest, postgresql_where=DEAD)
    op.create_index("outcomes_dead_by_job", "outcomes", ["job_id", "code"], postgresql_where=DEAD)
    op.create_table(
        "redrives",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("filter", postgresql.JSONB(), nullable=False),
        sa.Column("override", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("max_per_second", sa.Float()),
        sa.Column("reason", sa.Text()),
        _time("created_at", null=False),
        _time("finished_at"),
        sa.Column("pages", sa.BigInteger(), nullable=False, server_default="0"),
        sa.CheckConstraint("max_per_second > 0", name=op.f("redrives_max_per_second")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("redrives_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("redrives_pkey")),
    )
    op.create_index("redrives_open", "redrives", ["id"], postgresql_where=UNFINISHED)
    op.create_index("redrives_tenant_id_id", "redrives", ["tenant_id", sa.text("id DESC")])
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        _time("at", null=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("audit_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_index("audit_tenant_id_id", "audit", ["tenant_id", sa.text("id DESC")])
    op.create_table(
        "results_cache",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("body", postgresql.JSON(), nullable=False),
        _time("created_at", null=False),
        sa.PrimaryKeyConstraint("key", name=op.f("results_cache_pkey")),
    )
    op.create_index("results_cache_job_id", "results_cache", ["job_id"])
    op.create_index("results_cache_created_at", "results_cache", ["created_at"])


def downgrade() -> None:
    op.drop_table("results_cache")
    op.drop_table("audit")
    op.drop_table("redrives")
    op.drop_index("outcomes_dead_by_job", "outcomes")
    op.drop_index("outcomes_dead_letters", "outcomes")
    op.drop_constraint(op.f("outcomes_discarded"), "outcomes", type_="check")
    op.drop_column("outcomes", "discarded_at")
    for name in ("worker", "device", "model", "revision", "thumbnail", "timings_ms"):
        op.drop_column("attempts", name)
    op.drop_index("pages_redriven", "pages")
    op.drop_column("pages", "redrive_id")
    op.drop_index("jobs_purged", "jobs")
    op.drop_column("jobs", "purged_at")
