"""What people did to jobs and pages, and results kept for the next who asks the same."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from ocrfleet.tables.columns import count, metadata, time

redrives = Table(
    "redrives",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("filter", JSONB, nullable=False),
    # The request that made it (Idempotency-Key): sent again, it finds the row.
    Column("request_id", UUID(as_uuid=True), unique=True),
    # Options over those of the job and the item.
    Column("override", JSONB, nullable=False, server_default="{}"),
    Column("max_per_second", Float),
    Column("reason", Text),
    time("created_at", null=False),
    # When the last page that the filter met had been brought back; `pages` of them so far.
    time("finished_at"),
    count("pages", BigInteger),
    # When the next page that it brings back may run: the rate holds across chunks, however late one comes.
    time("next_at", null=False),
    CheckConstraint("max_per_second > 0", name="max_per_second"),
    Index("redrives_open", "id", postgresql_where=text("finished_at IS NULL")),
    Index("redrives_tenant_id_id", "tenant_id", text("id DESC")),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    time("at", null=False),
    Column("actor", Text, nullable=False),  # the API key's id
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    Index("audit_tenant_id_id", "tenant_id", text("id DESC")),
)

results_cache = Table(
    "results_cache",
    metadata,
    # SHA-256 of all that a result depends on, the tenant first of all.
    Column("key", LargeBinary, primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), nullable=False),
    # The job that paid for it: its purge takes the entry away.
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("body", JSON, nullable=False),
    time("created_at", null=False),
    Index("results_cache_job_id", "job_id"),
    Index("results_cache_created_at", "created_at"),
)
