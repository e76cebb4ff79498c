"""exports, webhooks, and what a job writes as it runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("output", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("output_seq", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("output_leased_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("output_error", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("webhook_ids", sa.ARRAY(sa.UUID()), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("rule_id", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("open_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("redrives", sa.Column("request_id", sa.UUID(), nullable=True))
    op.create_unique_constraint(op.f("redrives_request_id_key"), "redrives", ["request_id"])
    op.create_index("jobs_open", "jobs", ["rule_id"], postgresql_where=sa.text("open_until IS NOT NULL"))
    op.create_index(
        "jobs_outputs",
        "jobs",
        ["output_leased_until"],
        postgresql_where=sa.text("output_leased_until IS NOT NULL"),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("options", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("cursor", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("lease", sa.UUID(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "format IN ('jsonl', 'markdown', 'parquet', 'pdf', 'alto')", name=op.f("exports_format")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'failed')", name=op.f("exports_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("exports_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("exports_pkey")),
    )
    op.create_index("exports_job_id", "exports", ["job_id", "created_at"])
    op.create_index(
        "exports_open", "exports", ["created_at"], postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_index(
        "exports_place",
        "exports",
        ["bucket", "prefix"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "export_names",
        sa.Column("export_id", sa.UUID(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("occurrence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id"], ["exports.id"], name=op.f("export_names_export_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("export_id", "ordinal", name=op.f("export_names_pkey")),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("events", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("webhooks_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhooks_pkey")),
    )
    op.create_index(
        "webhooks_tenant_id_created_at", "webhooks", ["tenant_id", sa.text("created_at DESC"), "id"]
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("webhook_id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'delivered', 'failed')", name=op.f("webhook_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("webhook_deliveries_webhook_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pkey")),
        sa.UniqueConstraint(
            "webhook_id", "message_id", name=op.f("webhook_deliveries_webhook_id_message_id_key")
        ),
    )
    op.create_index("webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])
    op.create_index(
        "webhook_deliveries_waiting",
        "webhook_deliveries",
        ["webhook_id", "next_at"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("webhook_deliveries_webhook_id_id", "webhook_deliveries", ["webhook_id", "id"])


def downgrade() -> None:
    op.drop_index("webhook_deliveries_webhook_id_id", table_name="webhook_deliveries")
    op.drop_index(
        "webhook_deliveries_waiting",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.drop_index("webhook_deliveries_created_at", table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_index("webhooks_tenant_id_created_at", table_name="webhooks")
    op.drop_table("webhooks")
    op.drop_table("export_names")
    op.drop_index("exports_place", table_name="exports", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_index("exports_open", table_name="exports", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_index("exports_job_id", table_name="exports")
    op.drop_table("exports")
    op.drop_index(
        "jobs_outputs", table_name="jobs", postgresql_where=sa.text("output_leased_until IS NOT NULL")
    )
    op.drop_index("jobs_open", table_name="jobs", postgresql_where=sa.text("open_until IS NOT NULL"))
    op.drop_constraint(op.f("redrives_request_id_key"), "redrives")
    op.drop_column("redrives", "request_id")
    op.drop_column("jobs", "open_until")
    op.drop_column("jobs", "rule_id")
    op.drop_column("jobs", "webhook_ids")
    op.drop_column("jobs", "output_error")
    op.drop_column("jobs", "output_leased_until")
    op.drop_column("jobs", "output_seq")
    op.drop_column("jobs", "output")
