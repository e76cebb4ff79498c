"""quotas, idempotency keys and usage."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("pages_per_day", sa.BigInteger(), nullable=True))
    op.add_column("tenants", sa.Column("bytes_per_day", sa.BigInteger(), nullable=True))
    op.add_column("tenants", sa.Column("jobs_open", sa.Integer(), nullable=True))
    op.add_column("tenants", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("tenants", sa.Column("buckets", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("resource_id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("idempotency_keys_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "usage",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("pages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dead", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("interactive", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("usage_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "day", name=op.f("usage_pkey")),
    )
    op.create_index(
        "usage_tenant_id_day", "usage", ["tenant_id", "day"], postgresql_include=["pages", "bytes"]
    )
    op.create_index(
        "usage_unfolded",
        "usage",
        ["day"],
        postgresql_where=sa.text("interactive AND job_id <> tenant_id"),
    )
    op.create_index(
        "jobs_unfinished",
        "jobs",
        ["tenant_id", "created_at", "id"],
        postgresql_where=sa.text("lane = 'bulk' AND finished_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "jobs_unfinished", table_name="jobs", postgresql_where=sa.text("lane = 'bulk' AND finished_at IS NULL")
    )
    op.drop_index(
        "usage_unfolded",
        table_name="usage",
        postgresql_where=sa.text("interactive AND job_id <> tenant_id"),
    )
    op.drop_index("usage_tenant_id_day", table_name="usage")
    op.drop_table("usage")
    op.drop_index("idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("tenants", "buckets")
    op.drop_column("tenants", "requests_per_minute")
    op.drop_column("tenants", "jobs_open")
    op.drop_column("tenants", "bytes_per_day")
    op.drop_column("tenants", "pages_per_day")
