"""The record: every table, its constraints and its indexes.

Hot tables (items, pages, attempts, outcomes) carry no foreign keys: a key check locks the job's row, which every
settle needs (docs/adr/0002). Their only writer is `ocrfleet.store`, and tests/store recounts them.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from ocrfleet.states import EXCLUSIVE_AFTER, ItemState, JobOutcome, JobState, Lane, PageState, WorkerState

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _time(name: str, *, null: bool = True) -> Column[Any]:
    """A timestamp; a mandatory one is set by the database, whose clock is the only one."""
    return Column(name, DateTime(timezone=True), nullable=null, server_default=None if null else func.now())


def _count(name: str, kind: type[Integer] = Integer) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default="0")


tenants = Table(
    "tenants",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")),
    Column("name", Text, nullable=False, unique=True),
    Column("weight", Float, nullable=False, server_default="1"),
    _time("created_at", null=False),
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
    _time("created_at", null=False),
    _time("expires_at"),
    _time("revoked_at"),
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
    _time("deadline"),
    _time("created_at", null=False),
    _time("started_at"),
    _time("finished_at"),
    # Expansion: the cursor is compared and set with each chunk; the lease is a column, not a held lock.
    Column("cursor", JSONB, nullable=False, server_default="{}"),
    _time("expansion_leased_until"),
    _time("listed_at"),
    _time("expanded_at"),
    _count("items_total", BigInteger),
    _count("items_pending", BigInteger),
    # Counters of pages: the total, and those that are terminal.
    _count("total", BigInteger),
    _count("succeeded", BigInteger),
    _count("dead", BigInteger),
    _count("canceled", BigInteger),
    _count("result_seq", BigInteger),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("error", JSONB),
    # Throughput, sampled by the sweeper.
    Column("throughput", Float),
    _time("sampled_at"),
    _count("sampled_done", BigInteger),
    _one_of("state", JobState),
    _one_of("outcome", JobOutcome),
    _one_of("lane", Lane),
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
    postgresql_with={"fillfactor": "50"},
)  # fmt: skip

job_errors = Table(
    "job_errors",
    metadata,
    Column("job_id", UUID(as_uuid=True), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("code", Text, primary_key=True),
    _count("pages", BigInteger),
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
    Column("options", JSONB),
    Column("state", Text, nullable=False),
    Column("page_count", Integer),
    _time("leased_until"),
    _one_of("state", ItemState),
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
    _time("not_before", null=False),
    _time("since", null=False),
    Column("batch_id", BigInteger),
    Column("incarnation", UUID(as_uuid=True)),  # of the worker that leases it
    _count("attempt", SmallInteger),
    _count("failures", SmallInteger),
    _count("losses", SmallInteger),
    _count("redispatches", SmallInteger),
    Column("state", Text, nullable=False, server_default=PageState.READY),
    _one_of("state", PageState),
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
    _time("started_at"),
    _time("ended_at", null=False),
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
    _time("created_at", null=False),
    CheckConstraint("state IN ('succeeded', 'dead')", name="state"),
    CheckConstraint("(code IS NULL) = (state = 'succeeded')", name="code"),
    UniqueConstraint("job_id", "seq"),
)

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
    _count("in_flight"),
    Column("pages_per_second", Float, nullable=False, server_default="0"),
    # The batches held at the last two heartbeats: a running page missing from both goes back.
    Column("batches", ARRAY(BigInteger), nullable=False, server_default="{}"),
    Column("previous_batches", ARRAY(BigInteger), nullable=False, server_default="{}"),
    _time("started_at", null=False),
    _time("heartbeat_at", null=False),
    _time("previous_heartbeat_at"),
    Column("last_error", Text),
    _one_of("state", WorkerState),
    postgresql_with={"fillfactor": "50"},
)
