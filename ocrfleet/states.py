"""States of jobs and pages, and the transitions the protocol allows (docs/architecture.md)."""

from enum import StrEnum


class PageState(StrEnum):
    """Where a page stands; the last three are terminal, and only a redrive leaves `dead`."""

    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELED = "canceled"


class JobState(StrEnum):
    """Where a job stands; `failed` only when its expansion itself failed."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELING = "canceling"
    CANCELED = "canceled"
    COMPLETED = "completed"
    FAILED = "failed"


class JobOutcome(StrEnum):
    """How a job ended, apart from its state."""

    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"


class ItemState(StrEnum):
    """Whether the pages of an item are known; `failed` when they could not be counted."""

    PENDING = "pending"
    COUNTED = "counted"
    FAILED = "failed"


class Lane(StrEnum):
    """Bulk work waits for throughput, interactive work for latency; each has its queue and window."""

    BULK = "bulk"
    INTERACTIVE = "interactive"


class WorkerState(StrEnum):
    """What a worker says of itself in its heartbeat; the last three take no work and hold none."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    TRIPPED = "tripped"
    """Its breaker is open: after many failures that were no page's it claims nothing until a probe passes."""
    STOPPED = "stopped"
    REFUSED = "refused"
    """Its engine refused to start."""
    QUARANTINED = "quarantined"
    """Written by the supervisor: its device is left alone."""


class UploadState(StrEnum):
    """Whether the bytes of an upload are there; an open one that nobody completes expires."""

    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


class BatchStatus(StrEnum):
    """Where a batch of the OpenAI-shaped façade stands, by their names."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class ExportFormat(StrEnum):
    """What a job's results are written as; pdf and alto need regions."""

    JSONL = "jsonl"
    MARKDOWN = "markdown"
    PARQUET = "parquet"
    PDF = "pdf"
    ALTO = "alto"


class ExportState(StrEnum):
    """Where an export stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """Where the delivery of a webhook's message stands; `failed` when all its tries have."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


EXCLUSIVE_AFTER = 2
"""Losses after which a page runs alone on its worker."""
PROOFS = 2
"""Deaths of different processes, each alone with the page, that make it poison."""

PAGE_TERMINAL = frozenset({PageState.SUCCEEDED, PageState.DEAD, PageState.CANCELED})
JOB_TERMINAL = frozenset({JobState.CANCELED, JobState.COMPLETED, JobState.FAILED})

PAGE_TRANSITIONS: dict[PageState, frozenset[PageState]] = {
    PageState.READY: frozenset({PageState.DISPATCHED, PageState.CANCELED}),
    PageState.DISPATCHED: frozenset({PageState.RUNNING, PageState.READY, PageState.CANCELED}),
    PageState.RUNNING: frozenset({PageState.SUCCEEDED, PageState.DEAD, PageState.CANCELED, PageState.READY}),
    PageState.SUCCEEDED: frozenset(),
    PageState.DEAD: frozenset({PageState.READY}),
    PageState.CANCELED: frozenset(),
}

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.CANCELING, JobState.COMPLETED, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset({JobState.PAUSED, JobState.CANCELING, JobState.COMPLETED, JobState.FAILED}),
    JobState.PAUSED: frozenset(
        {JobState.QUEUED, JobState.RUNNING, JobState.CANCELING, JobState.COMPLETED, JobState.FAILED}
    ),
    JobState.CANCELING: frozenset({JobState.CANCELED}),
    JobState.CANCELED: frozenset(),
    # A redrive reopens a completed job under its next generation.
    JobState.COMPLETED: frozenset({JobState.RUNNING}),
    JobState.FAILED: frozenset(),
}
