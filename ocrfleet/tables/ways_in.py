"""How objects come in apart from a job's own input: uploads, bucket events and their rules, files of the batch façade."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from ocrfleet.states import BatchStatus, UploadState
from ocrfleet.tables.columns import count, metadata, one_of, time

uploads = Table(
    "uploads",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # declared; on completion, those that are there
    Column("multipart_id", Text),  # the store's, of an upload in parts
    Column("etag", Text),
    Column("state", Text, nullable=False, server_default=UploadState.OPEN),
    time("created_at", null=False),
    time("completed_at"),
    one_of("state", UploadState),
    Index("uploads_tenant_id_created_at", "tenant_id", text("created_at DESC"), "id"),
    Index("uploads_open", "created_at", postgresql_where=text("state = 'open'")),
    Index(
        "uploads_uncleared",
        "created_at",
        "id",
        postgresql_where=text("state = 'expired' AND completed_at IS NULL"),
    ),
)

event_sources = Table(
    "event_sources",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),  # the {source} of the address that the store posts to
    Column("token_sha256", LargeBinary, nullable=False),
    # The request that made it (Idempotency-Key): sent again, it finds the row.
    Column("request_id", UUID(as_uuid=True), unique=True),
    time("created_at", null=False),
    # Nobody sees it any more; what it has told is taken away step by step.
    time("deleted_at"),
    Index(
        "event_sources_name_tenant_id",
        "name",
        "tenant_id",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

bucket_events = Table(
    "bucket_events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("source_id", BigInteger, ForeignKey("event_sources.id", ondelete="CASCADE"), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    # SHA-256 of bucket, key, version and sequencer; of the raw bytes for what is malformed.
    Column("identity", LargeBinary, nullable=False),
    Column("bucket", Text),
    Column("key", Text),
    Column("version_id", Text),
    Column("etag", Text),
    Column("bytes", BigInteger),
    # When it happened, by the store's word.
    Column("sequencer", Text),
    time("happened_at"),
    # Why it is in quarantine.
    Column("fault", Text),
    time("received_at", null=False),
    # When rules were applied to it.
    time("handled_at"),
    UniqueConstraint("source_id", "identity"),
    Index("bucket_events_source_id_id", "source_id", text("id DESC")),
    Index(
        "bucket_events_waiting",
        "source_id",
        "id",
        postgresql_where=text("handled_at IS NULL AND fault IS NULL"),
    ),
    Index(
        "bucket_events_quarantine", "source_id", text("id DESC"), postgresql_where=text("fault IS NOT NULL")
    ),
    Index("bucket_events_received_at", "received_at"),
)

bucket_rules = Table(
    "bucket_rules",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("prefix", Text, nullable=False, server_default=""),
    Column("suffix", Text, nullable=False, server_default=""),
    # Task, prompt, options, output, priority, labels of the jobs that it makes.
    Column("job", JSONB, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("rescan_seconds", Integer, nullable=False, server_default="900"),
    # The request that made it (Idempotency-Key): sent again, it finds the row.
    Column("request_id", UUID(as_uuid=True), unique=True),
    # Of the rescan that goes on, or of the next one.
    Column("cursor", JSONB, nullable=False, server_default="{}"),
    time("rescan_at", null=False),
    time("leased_until"),
    time("created_at", null=False),
    UniqueConstraint("tenant_id", "name"),
    Index("bucket_rules_bucket", "bucket", postgresql_where=text("enabled")),
)

# What a rule has taken, by event or by rescan: of each object the version that came last.
rule_objects = Table(
    "rule_objects",
    metadata,
    Column("rule_id", BigInteger, ForeignKey("bucket_rules.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("etag", Text, nullable=False),
    Column("version_id", Text),
    # When it came into being, by its store's word.
    Column("sequencer", Text),
    time("happened_at"),
    # Taken, told of or listed; of listings not each one.
    time("seen_at", null=False),
    Index("rule_objects_seen_at", "rule_id", "seen_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),  # file-…
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    count("bytes", BigInteger),
    time("created_at", null=False),
    Index("files_tenant_id_created_at", "tenant_id", text("created_at DESC"), "id"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),  # batch_…
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False, server_default=BatchStatus.VALIDATING),
    # A job for each prompt with its parameters, once the input file has been read.
    Column("job_ids", ARRAY(UUID(as_uuid=True)), nullable=False, server_default="{}"),
    Column("input_file_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default="{}"),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    # Why it failed, as {code, line, message, param}.
    Column("errors", JSONB, nullable=False, server_default="[]"),
    # Lines of the input, and those that no job was made for; at the end, those with an answer and with an error.
    count("lines", BigInteger),
    count("refused", BigInteger),
    count("completed", BigInteger),
    count("failed", BigInteger),
    time("created_at", null=False),
    time("expires_at", null=False),
    time("in_progress_at"),
    time("finalizing_at"),
    time("cancelling_at"),
    time("ended_at"),
    time("leased_until"),
    one_of("status", BatchStatus),
    Index("batches_tenant_id_created_at", "tenant_id", text("created_at DESC"), "id"),
    Index("batches_open", "created_at", postgresql_where=text("ended_at IS NULL")),
    Index(
        "batches_uncleared",
        "ended_at",
        postgresql_where=text("ended_at IS NOT NULL AND leased_until IS NULL"),
    ),
)
