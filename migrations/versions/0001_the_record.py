"""the record."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("page_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("incarnation", sa.UUID(), nullable=True),
        sa.Column("exclusive", sa.Integer(), server_default="0", nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("page_id", "fence", name=op.f("attempts_pkey")),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("page_count", sa.Integer(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'counted', 'failed')", name=op.f("items_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pkey")),
        sa.UniqueConstraint("job_id", "ordinal", name=op.f("items_job_id_ordinal_key")),
        postgresql_with={"fillfactor": "95", "autovacuum_vacuum_scale_factor": "0.05"},
    )
    op.create_index(
        "items_pending",
        "items",
        ["job_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "outcomes",
        sa.Column("page_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(code IS NULL) = (state = 'succeeded')", name=op.f("outcomes_code")),
        sa.CheckConstraint("state IN ('succeeded', 'dead')", name=op.f("outcomes_state")),
        sa.PrimaryKeyConstraint("page_id", name=op.f("outcomes_pkey")),
        sa.UniqueConstraint("job_id", "seq", name=op.f("outcomes_job_id_seq_key")),
    )
    op.create_table(
        "pages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("incarnation", sa.UUID(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("losses", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("redispatches", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="ready", nullable=False),
        sa.CheckConstraint(
            "(batch_id IS NOT NULL) = (state IN ('dispatched', 'running'))", name=op.f("pages_batch")
        ),
        sa.CheckConstraint("(incarnation IS NOT NULL) = (state = 'running')", name=op.f("pages_lease")),
        sa.CheckConstraint(
            "state IN ('ready', 'dispatched', 'running', 'succeeded', 'dead', 'canceled')",
            name=op.f("pages_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pages_pkey")),
        sa.UniqueConstraint("item_id", "number", name=op.f("pages_item_id_number_key")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "5000",
            "autovacuum_vacuum_insert_scale_factor": "0.2",
            "autovacuum_analyze_scale_factor": "0.05",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "pages_in_flight",
        "pages",
        ["job_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('dispatched', 'running')"),
    )
    op.create_index(
        "pages_ready",
        "pages",
        ["job_id", "not_before", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "pages_suspects",
        "pages",
        ["job_id", "not_before", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND losses >= 2"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("tenants_weight")),
        sa.PrimaryKeyConstraint("id", name=op.f("tenants_pkey")),
        sa.UniqueConstraint("name", name=op.f("tenants_name_key")),
    )
    op.create_table(
        "workers",
        sa.Column("incarnation", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("tasks", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("in_flight_target", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pages_per_second", sa.Float(), server_default="0", nullable=False),
        sa.Column("batches", sa.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("previous_batches", sa.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("previous_heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('starting', 'ready', 'draining', 'stopped')", name=op.f("workers_state")
        ),
        sa.PrimaryKeyConstraint("incarnation", name=op.f("workers_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("api_keys_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("lane", sa.Text(), server_default="bulk", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("expansion_leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expanded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("items_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("items_pending", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dead", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("canceled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("result_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("throughput", sa.Float(), nullable=True),
        sa.Column("sampled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sampled_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (state NOT IN ('canceled', 'completed', 'failed'))",
            name=op.f("jobs_finished"),
        ),
        sa.CheckConstraint("lane IN ('bulk', 'interactive')", name=op.f("jobs_lane")),
        sa.CheckConstraint("outcome IN ('succeeded', 'partial', 'failed')", name=op.f("jobs_outcome")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'paused', 'canceling', 'canceled', 'completed', 'failed')",
            name=op.f("jobs_state"),
        ),
        sa.CheckConstraint("succeeded + dead + canceled <= total", name=op.f("jobs_counters")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("jobs_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "jobs_counting", "jobs", ["created_at"], unique=False, postgresql_where=sa.text("items_pending > 0")
    )
    op.create_index(
        "jobs_deadline",
        "jobs",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running', 'paused')"),
    )
    op.create_index(
        "jobs_dispatchable",
        "jobs",
        ["lane", "tenant_id", sa.literal_column("priority DESC"), "created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index("jobs_labels", "jobs", ["labels"], unique=False, postgresql_using="gin")
    op.create_index(
        "jobs_tenant_id_created_at",
        "jobs",
        ["tenant_id", sa.literal_column("created_at DESC"), "id"],
        unique=False,
    )
    op.create_index(
        "jobs_unexpanded",
        "jobs",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("listed_at IS NULL AND state IN ('queued', 'running', 'paused')"),
    )
    op.create_table(
        "job_errors",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("pages", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("job_errors_job_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "code", name=op.f("job_errors_pkey")),
    )
    op.execute(sa.schema.CreateSequence(sa.Sequence("page_batches")))
    op.execute("INSERT INTO tenants (name) VALUES ('default')")


def downgrade() -> None:
    op.drop_table("job_errors")
    op.drop_index(
        "jobs_unexpanded",
        table_name="jobs",
        postgresql_where=sa.text("listed_at IS NULL AND state IN ('queued', 'running', 'paused')"),
    )
    op.drop_index("jobs_tenant_id_created_at", table_name="jobs")
    op.drop_index("jobs_labels", table_name="jobs", postgresql_using="gin")
    op.drop_index(
        "jobs_dispatchable", table_name="jobs", postgresql_where=sa.text("state IN ('queued', 'running')")
    )
    op.drop_index(
        "jobs_deadline",
        table_name="jobs",
        postgresql_where=sa.text("state IN ('queued', 'running', 'paused')"),
    )
    op.drop_index("jobs_counting", table_name="jobs", postgresql_where=sa.text("items_pending > 0"))
    op.drop_table("jobs")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("tenants")
    op.drop_index(
        "pages_suspects", table_name="pages", postgresql_where=sa.text("state = 'ready' AND losses >= 2")
    )
    op.drop_index("pages_ready", table_name="pages", postgresql_where=sa.text("state = 'ready'"))
    op.drop_index(
        "pages_in_flight", table_name="pages", postgresql_where=sa.text("state IN ('dispatched', 'running')")
    )
    op.drop_table("pages")
    op.drop_table("outcomes")
    op.drop_index("items_pending", table_name="items", postgresql_where=sa.text("state = 'pending'"))
    op.drop_table("items")
    op.drop_table("attempts")
    op.execute(sa.schema.DropSequence(sa.Sequence("page_batches")))
