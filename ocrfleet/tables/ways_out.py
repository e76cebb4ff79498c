"""How results go out apart from the stream: exports, and webhooks with every delivery."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from ocrfleet.states import DeliveryState, ExportFormat, ExportState
from ocrfleet.tables.columns import count, metadata, one_of, time

exports = Table(
    "exports",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("format", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("options", JSONB, nullable=False, server_default="{}"),
    Column("state", Text, nullable=False, server_default=ExportState.QUEUED),
    # Where the next chunk begins; compared and set, as an expansion's.
    Column("cursor", JSONB, nullable=False, server_default="{}"),
    # Who holds it, anew with each turn: what only its holder may do asks for it.
    Column("lease", UUID(as_uuid=True)),
    time("leased_until"),
    count("items", BigInteger),
    count("failed", BigInteger),
    count("bytes", BigInteger),
    Column("error", JSONB),
    time("created_at", null=False),
    time("finished_at"),
    one_of("format", ExportFormat),
    one_of("state", ExportState),
    Index("exports_job_id", "job_id", "created_at"),
    Index("exports_open", "created_at", postgresql_where=text("finished_at IS NULL")),
    # Two that write to one place, whosever they are, would mix.
    Index("exports_place", "bucket", "prefix", unique=True, postgresql_where=text("finished_at IS NULL")),
)

# While an export runs: the items whose name has come before in the job, and how many times it has then.
export_names = Table(
    "export_names",
    metadata,
    Column("export_id", UUID(as_uuid=True), ForeignKey("exports.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("occurrence", BigInteger, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text),
    # Types of events; empty means all.
    Column("events", ARRAY(Text), nullable=False, server_default="{}"),
    Column("secret", Text, nullable=False),
    # The one before it signs too, until then.
    Column("previous_secret", Text),
    time("previous_secret_until"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    # Why we have disabled it.
    Column("fault", Text),
    time("created_at", null=False),
    Index("webhooks_tenant_id_created_at", "tenant_id", text("created_at DESC"), "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("webhook_id", UUID(as_uuid=True), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    # The same however often it is sent, so that a receiver knows it again.
    Column("message_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=DeliveryState.WAITING),
    count("attempts", SmallInteger),
    time("next_at", null=False),
    time("leased_until"),
    Column("status", Integer),  # of the last answer
    Column("error", Text),
    Column("milliseconds", Integer),
    time("created_at", null=False),
    time("delivered_at"),
    one_of("state", DeliveryState),
    UniqueConstraint("webhook_id", "message_id"),
    # By webhook, so that one with a long queue is not in the others' way.
    Index("webhook_deliveries_waiting", "webhook_id", "next_at", postgresql_where=text("state = 'waiting'")),
    Index("webhook_deliveries_webhook_id_id", "webhook_id", "id"),
    Index("webhook_deliveries_created_at", "created_at"),
)
