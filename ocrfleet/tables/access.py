"""What callers may do, what they have done before under the same key, and what they have used."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from ocrfleet.tables.columns import count, metadata, time

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    # Method, path and body: the same key with another request is refused.
    Column("request_sha256", LargeBinary, nullable=False),
    # None while the first request is being answered.
    Column("status", SmallInteger),
    Column("headers", JSONB, nullable=False, server_default="{}"),
    Column("body", LargeBinary),
    # Of what the request makes: who takes the claim over makes no second one.
    Column("resource_id", UUID(as_uuid=True), nullable=False, server_default=text("gen_random_uuid()")),
    # Renewed while it is being answered; null when that came to nothing.
    time("claimed_at"),
    time("created_at", null=False),
    Index("idempotency_keys_created_at", "created_at"),
)

usage = Table(
    "usage",
    metadata,
    Column("job_id", UUID(as_uuid=True), primary_key=True),
    Column("day", Date, primary_key=True),  # UTC
    # Kept when the job is purged: what was used stays used.
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    count("pages", BigInteger),
    count("dead", BigInteger),
    count("cached", BigInteger),
    count("bytes", BigInteger),
    count("prompt_tokens", BigInteger),
    count("output_tokens", BigInteger),
    Column("seconds", Float, nullable=False, server_default="0"),  # of inference
    # One page each: folded into one row of their tenant and day, whose `job_id` is the tenant's id.
    Column("interactive", Boolean, nullable=False, server_default=text("false")),
    # With what the dispatcher sums up in each of its rounds, for tenants with a daily quota.
    Index("usage_tenant_id_day", "tenant_id", "day", postgresql_include=["pages", "bytes"]),
    Index("usage_unfolded", "day", postgresql_where=text("interactive AND job_id <> tenant_id")),
)
