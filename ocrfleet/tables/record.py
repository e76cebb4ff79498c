"""The record of jobs and pages, and who does and asks for them.

Hot tables (items, pages, attempts, outcomes) carry no foreign keys: a key check locks the job's row, which every
settle needs (docs/adr/0002). Their only writer is `ocrfleet.store`, and tests/store recounts them.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from ocrfleet.states import EXCLUSIVE_AFTER, ItemState, JobOutcome, JobState, Lane, PageState, WorkerState
from ocrfleet.tables.columns import count, metadata, one_of, time

tenants = Table(
    "tenants",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")),
    Column("name", Text, nullable=False, unique=True),
    Column("weight", Float, nullable=False, server_default="1"),
    # Quotas and the rate of requests; none where null.
    Column("pages_per_day", BigInteger),
    Column("bytes_per_day", BigInteger),
    Column("jobs_open", Integer),
    Column("requests_per_minute", Integer),
    # What it may read and write: `bucket` or `bucket/prefix`; every bucket where null.
    Column("buckets", ARRAY(Text)),
    time("created_at", null=False),
    CheckConstraint("weight > 0", name="weight"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False, server_default="{}"),
    time("created_at", null=False),
    time("expires_at"),
    time("revoked_at"),
    time("last_used_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True), ForeignKey("tenants.id"), nullable=False),
    Column("state", Text, nullable=False, server_default=JobState.QUEUED),
    Column("outcome", Text),
    Column("lane", Text, nullable=False, server_default=Lane.BULK),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("task", Text, nullable=False),
    Column("prompt", Text),
    Column("options", JSONB, nullable=False, server_default="{}"),
    Column("labels", JSONB, nullable=False, server_default="{}"),
    Column("input", JSONB, nullable=False),
    # What is written to a bucket as the job runs, and how far it is, as a `seq` of its results.
    Column("output", JSONB, nullable=False, server_default="{}"),
    count("output_seq", BigInteger),
    # When a producer may write on at it, null where there is nothing to write; why the bucket refused it.
    time("output_leased_until"),
    Column("output_error", JSONB),
    Column("webhook_ids", ARRAY(UUID(as_uuid=True)), nullable=False, server_default="{}"),
    # A rule's job takes further items until then.
    Column("rule_id", BigInteger),
    time("open_until"),
    time("deadline"),
    time("created_at", null=False),
    time("started_at"),
    time("finished_at"),
    # Expansion: the cursor is compared and set with each chunk; the lease is a column, not a held lock.
    Column("cursor", JSONB, nullable=False, server_default="{}"),
    time("expansion_leased_until"),
    time("listed_at"),
    time("expanded_at"),
    count("items_total", BigInteger),
    count("items_pending", BigInteger),
    # Counters of pages: the total, and those that are terminal.
    count("total", BigInteger),
    count("succeeded", BigInteger),
    count("dead", BigInteger),
    count("canceled", BigInteger),
    count("result_seq", BigInteger),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("error", JSONB),
    # Throughput, sampled by the sweeper.
    Column("throughput", Float),
    time("sampled_at"),
    count("sampled_done", BigInteger),
    # Set by DELETE: nobody sees the job any more, and the producer takes its rows away step by step.
    time("purged_at"),
    one_of("state", JobState),
    one_of("outcome", JobOutcome),
    one_of("lane", Lane),
    CheckConstraint("succeeded + dead + canceled <= total", name="counters"),
    CheckConstraint("(finished_at IS NULL) = (state NOT IN ('canceled', 'completed', 'failed'))", name="finished"),
    Index("jobs_tenant_id_created_at", "tenant_id", text("created_at DESC"), "id"),
    Index(
        "jobs_dispatchable",
        "lane", "tenant_id", text("priority DESC"), "created_at",
        postgresql_where=text("state IN ('queued', 'running')"),
    ),
    Index(
        "jobs_unexpanded",
        "created_at",
        postgresql_where=text("listed_at IS NULL AND state IN ('queued', 'running', 'paused')"),
    ),
    Index("jobs_counting", "created_at", postgresql_where=text("items_pending > 0")),
    Index(
        "jobs_deadline", "deadline", postgresql_where=text("state IN ('queued', 'running', 'paused')")
    ),
    Index("jobs_labels", "labels", postgresql_using="gin"),
    Index("jobs_canceling", "id", postgresql_where=text("state = 'canceling'")),
    Index("jobs_open", "rule_id", postgresql_where=text("open_until IS NOT NULL")),
    Index("jobs_outputs", "output_leased_until", postgresql_where=text("output_leased_until IS NOT NULL")),
    Index("jobs_purged", "purged_at", postgresql_where=text("purged_at IS NOT NULL")),
    Index("jobs_unfinished", "tenant_id", "created_at", "id", postgresql_where=text("lane = 'bulk' AND finished_at IS NULL")),
    postgresql_with={"fillfactor": "50"},
)  # fmt: skip

job_errors = Table(
    "job_errors",
    metadata,
    Column("job_id", UUID(as_uuid=True), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("code", Text, primary_key=True),
    count("pages", BigInteger),
)

items = Table(
    "items",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("etag", Text),
    Column("version_id", Text),
    Column("custom_id", Text),
    # The path within the object, where that is an archive.
    Column("member", Text),
    Column("bytes", BigInteger),
    Column("options", JSONB),
    Column("state", Text, nullable=False),
    Column("page_count", Integer),
    time("leased_until"),
    one_of("state", ItemState),
    UniqueConstraint("job_id", "ordinal"),
    Index("items_pending", "job_id", "id", postgresql_where=text("state = 'pending'")),
    postgresql_with={"fillfactor": "95", "autovacuum_vacuum_scale_factor": "0.05"},
)

pages = Table(
    "pages",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("item_id", BigInteger, nullable=False),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("number", Integer, nullable=False),  # from 1; 0 is the item itself, which could not be counted
    Column("fence", Integer, nullable=False, server_default="0"),
    # When a ready page may be dispatched; when any other entered its state.
    time("not_before", null=False),
    time("since", null=False),
    Column("batch_id", BigInteger),
    Column("incarnation", UUID(as_uuid=True)),  # of the worker that leases it
    count("attempt", SmallInteger),
    count("failures", SmallInteger),
    count("losses", SmallInteger),
    count("redispatches", SmallInteger),
    Column("redrive_id", BigInteger),  # the last that brought it back, with its overrides
    Column("state", Text, nullable=False, server_default=PageState.READY),
    one_of("state", PageState),
    CheckConstraint("(incarnation IS NOT NULL) = (state = 'running')", name="lease"),
    CheckConstraint("(batch_id IS NOT NULL) = (state IN ('dispatched', 'running'))", name="batch"),
    UniqueConstraint("item_id", "number"),
    Index("pages_ready", "job_id", "not_before", "id", postgresql_where=text("state = 'ready'")),
    Index(
        "pages_suspects",
        "job_id",
        "not_before",
        "id",
        postgresql_where=text(f"state = 'ready' AND losses >= {EXCLUSIVE_AFTER}"),
    ),
    Index("pages_redriven", "redrive_id", postgresql_where=text("redrive_id IS NOT NULL")),
    Index("pages_in_flight", "job_id", postgresql_where=text("state IN ('dispatched', 'running')")),
    postgresql_with={
        "fillfactor": "70",
        # Every page is updated three times within seconds: clean up early, a little at a time.
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_insert_scale_factor": "0.2",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_cost_delay": "1",
    },
)

page_batches = Sequence("page_batches", metadata=metadata)

attempts = Table(
    "attempts",
    metadata,
    Column("page_id", BigInteger, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("attempt", SmallInteger, nullable=False),
    Column("incarnation", UUID(as_uuid=True)),
    Column("exclusive", Integer, nullable=False, server_default="0"),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("parameters", JSONB, nullable=False, server_default="{}"),
    # Who did it, as the record knew him then: workers are forgotten.
    Column("worker", Text),
    Column("device", Text),
    Column("model", Text),
    Column("revision", Text),
    Column("timings_ms", JSONB, nullable=False, server_default="{}"),
    # Where in our bucket a small image of the page is.
    Column("thumbnail", Text),
    time("started_at"),
    time("ended_at", null=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("page_id", BigInteger, primary_key=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the job: the cursor of its results
    Column("fence", Integer, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text),
    # JSON, not JSONB: it is only ever handed out as it came.
    Column("body", JSON, nullable=False),
    time("created_at", null=False),
    CheckConstraint("state IN ('succeeded', 'dead')", name="state"),
    # A dead letter that somebody has seen and given up.
    time("discarded_at"),
    CheckConstraint("(code IS NULL) = (state = 'succeeded')", name="code"),
    CheckConstraint("discarded_at IS NULL OR state = 'dead'", name="discarded"),
    UniqueConstraint("job_id", "seq"),
    # The dead letters, newest first, and those of one job.
    Index(
        "outcomes_dead_letters", text("created_at DESC"), text("page_id DESC"),
        postgresql_where=text("state = 'dead' AND discarded_at IS NULL"),
    ),
    Index("outcomes_dead_by_job", "job_id", "code", postgresql_where=text("state = 'dead' AND discarded_at IS NULL")),
)  # fmt: skip

workers = Table(
    "workers",
    metadata,
    Column("incarnation", UUID(as_uuid=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("tasks", ARRAY(Text), nullable=False),
    Column("state", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("in_flight_target", Integer, nullable=False),
    count("in_flight"),
    Column("pages_per_second", Float, nullable=False, server_default="0"),
    # The batches held at the last two heartbeats: a running page missing from both goes back.
    Column("batches", ARRAY(BigInteger), nullable=False, server_default="{}"),
    Column("previous_batches", ARRAY(BigInteger), nullable=False, server_default="{}"),
    time("started_at", null=False),
    time("heartbeat_at", null=False),
    time("previous_heartbeat_at"),
    Column("last_error", Text),
    one_of("state", WorkerState),
    postgresql_with={"fillfactor": "50"},
)
