"""Every table, its constraints and its indexes."""

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

__all__ = [
    "api_keys",
    "attempts",
    "audit",
    "items",
    "job_errors",
    "jobs",
    "metadata",
    "outcomes",
    "page_batches",
    "pages",
    "redrives",
    "results_cache",
    "tenants",
    "workers",
]
