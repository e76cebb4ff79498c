"""Every table, its constraints and its indexes."""

from ocrfleet.tables.access import idempotency_keys, usage
from ocrfleet.tables.acts import audit, redrives, results_cache
from ocrfleet.tables.columns import metadata
from ocrfleet.tables.record import (
    api_keys,
    attempts,
    items,
    job_errors,
    jobs,
    outcomes,
    page_batches,
    pages,
    tenants,
    workers,
)
from ocrfleet.tables.ways_in import (
    batches,
    bucket_events,
    bucket_rules,
    event_sources,
    files,
    rule_objects,
    uploads,
)
from ocrfleet.tables.ways_out import export_names, exports, webhook_deliveries, webhooks

__all__ = [
    "api_keys",
    "attempts",
    "audit",
    "batches",
    "bucket_events",
    "bucket_rules",
    "event_sources",
    "export_names",
    "exports",
    "files",
    "idempotency_keys",
    "items",
    "job_errors",
    "jobs",
    "metadata",
    "outcomes",
    "page_batches",
    "pages",
    "redrives",
    "results_cache",
    "rule_objects",
    "tenants",
    "uploads",
    "usage",
    "webhook_deliveries",
    "webhooks",
    "workers",
]
