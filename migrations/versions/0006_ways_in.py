"""uploads, bucket events and rules, files and batches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("member", sa.Text(), nullable=True))
    op.add_column("items", sa.Column("bytes", sa.BigInteger(), nullable=True))
    op.create_table(
        "uploads",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("multipart_id", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'complete', 'expired')", name=op.f("uploads_state")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("uploads_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("uploads_pkey")),
    )
    op.create_index("uploads_open", "uploads", ["created_at"], postgresql_where=sa.text("state = 'open'"))
    op.create_index(
        "uploads_uncleared",
        "uploads",
        ["created_at", "id"],
        postgresql_where=sa.text("state = 'expired' AND completed_at IS NULL"),
    )
    op.create_index(
        "uploads_tenant_id_created_at", "uploads", ["tenant_id", sa.text("created_at DESC"), "id"]
    )
    op.create_table(
        "event_sources",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("event_sources_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("event_sources_pkey")),
        sa.UniqueConstraint("request_id", name=op.f("event_sources_request_id_key")),
    )
    op.create_index(
        "event_sources_name_tenant_id",
        "event_sources",
        ["name", "tenant_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "bucket_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sequencer", sa.Text(), nullable=True),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["source_id"], ["event_sources.id"], name=op.f("bucket_events_source_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("bucket_events_pkey")),
        sa.UniqueConstraint("source_id", "identity", name=op.f("bucket_events_source_id_identity_key")),
    )
    op.create_index(
        "bucket_events_quarantine",
        "bucket_events",
        ["source_id", sa.text("id DESC")],
        postgresql_where=sa.text("fault IS NOT NULL"),
    )
    op.create_index("bucket_events_received_at", "bucket_events", ["received_at"])
    op.create_index("bucket_events_source_id_id", "bucket_events", ["source_id", sa.text("id DESC")])
    op.create_index(
        "bucket_events_waiting",
        "bucket_events",
        ["source_id", "id"],
        postgresql_where=sa.text("handled_at IS NULL AND fault IS NULL"),
    )
    op.create_table(
        "bucket_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), server_default="", nullable=False),
        sa.Column("suffix", sa.Text(), server_default="", nullable=False),
        sa.Column("job", postgresql.JSONB(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("rescan_seconds", sa.Integer(), server_default="900", nullable=False),
        sa.Column("request_id", sa.UUID(), nullable=True),
        sa.Column("cursor", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("rescan_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("bucket_rules_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("bucket_rules_pkey")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("bucket_rules_tenant_id_name_key")),
        sa.UniqueConstraint("request_id", name=op.f("bucket_rules_request_id_key")),
    )
    op.create_index("bucket_rules_bucket", "bucket_rules", ["bucket"], postgresql_where=sa.text("enabled"))
    op.create_table(
        "rule_objects",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("sequencer", sa.Text(), nullable=True),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["bucket_rules.id"], name=op.f("rule_objects_rule_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rule_id", "key", name=op.f("rule_objects_pkey")),
    )
    op.create_index("rule_objects_seen_at", "rule_objects", ["rule_id", "seen_at"])
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("files_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("files_pkey")),
    )
    op.create_index("files_tenant_id_created_at", "files", ["tenant_id", sa.text("created_at DESC"), "id"])
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), server_default="validating", nullable=False),
        sa.Column("job_ids", sa.ARRAY(sa.UUID()), server_default="{}", nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("errors", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("lines", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("in_progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finalizing_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired', "
            "'cancelling', 'cancelled')",
            name=op.f("batches_status"),
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("batches_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("batches_pkey")),
    )
    op.create_index(
        "batches_tenant_id_created_at", "batches", ["tenant_id", sa.text("created_at DESC"), "id"]
    )
    op.create_index("batches_open", "batches", ["created_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index(
        "batches_uncleared",
        "batches",
        ["ended_at"],
        postgresql_where=sa.text("ended_at IS NOT NULL AND leased_until IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "batches_uncleared",
        table_name="batches",
        postgresql_where=sa.text("ended_at IS NOT NULL AND leased_until IS NULL"),
    )
    op.drop_index("batches_open", table_name="batches", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index("batches_tenant_id_created_at", table_name="batches")
    op.drop_table("batches")
    op.drop_index("files_tenant_id_created_at", table_name="files")
    op.drop_table("files")
    op.drop_table("rule_objects")
    op.drop_index("bucket_rules_bucket", table_name="bucket_rules", postgresql_where=sa.text("enabled"))
    op.drop_table("bucket_rules")
    op.drop_index(
        "bucket_events_waiting",
        table_name="bucket_events",
        postgresql_where=sa.text("handled_at IS NULL AND fault IS NULL"),
    )
    op.drop_index("bucket_events_received_at", table_name="bucket_events")
    op.drop_index(
        "bucket_events_quarantine", table_name="bucket_events", postgresql_where=sa.text("fault IS NOT NULL")
    )
    op.drop_table("bucket_events")
    op.drop_table("event_sources")
    op.drop_index("uploads_tenant_id_created_at", table_name="uploads")
    op.drop_index(
        "uploads_uncleared",
        table_name="uploads",
        postgresql_where=sa.text("state = 'expired' AND completed_at IS NULL"),
    )
    op.drop_index("uploads_open", table_name="uploads", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("uploads")
    op.drop_column("items", "bytes")
    op.drop_column("items", "member")
