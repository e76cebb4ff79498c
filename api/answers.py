"""What the API gives: pydantic models, each with the example that the documentation shows."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.examples import example
from ocrfleet.catalogue import TASKS, OutputKind, Parameters
from ocrfleet.states import JobOutcome, JobState, Lane, WorkerState

Time = Annotated[datetime, AfterValidator(lambda value: value.astimezone(UTC))]

JOB_ID = "0b6e8d0e-5d0f-4a51-9f0a-3b0f3c6a7d11"
RESULT: dict[str, Any] = {
    "seq": 41,
    "job_id": JOB_ID,
    "item_id": "1201",
    "custom_id": "inv-17",
    "bucket": "scans",
    "key": "2026/a.pdf",
    "page": 1,
    "state": "succeeded",
    "attempt": 1,
    "text": "Invoice 17",
    "markdown": None,
    "regions": [{"text": "Invoice 17", "box": [102, 88, 431, 131], "confidence": 0.98}],
    "fields": None,
    "language": "en",
    "warnings": [],
    "usage": {"prompt_tokens": 0, "output_tokens": 0, "image_tokens": 0},
    "timings_ms": {"queue": 12, "fetch": 8, "decode": 20, "infer": 640},
    "image": {"width": 1654, "height": 2339, "sha256": "9f86d081884c7d65…"},
    "engine": "rapidocr",
    "model": "PP-OCRv5",
    "revision": "1",
    "task": "text",
    "task_version": 1,
    "cache": "miss",
}
DEAD: dict[str, Any] = {
    "seq": 42,
    "job_id": JOB_ID,
    "item_id": "1202",
    "custom_id": None,
    "bucket": "scans",
    "key": "b.pdf",
    "page": None,
    "state": "dead",
    "attempt": 1,
    "error": {"code": "encrypted_pdf", "retryable": False, "detail": "The PDF needs a password."},
}
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "state": "running",
    "outcome": None,
    "task": "text",
    "priority": 5,
    "labels": {"batch": "nov"},
    "input": {"type": "manifest", "bucket": "scans", "key": "m.jsonl"},
    "created_at": "2026-11-20T09:00:00Z",
    "started_at": "2026-11-20T09:00:01Z",
    "finished_at": None,
    "expanded_at": "2026-11-20T09:00:40Z",
    "deadline": None,
    "generation": 1,
    "output": {},
    "webhook_ids": [],
    "counts": {
        "total": 1000000,
        "ready": 899000,
        "dispatched": 900,
        "running": 100,
        "succeeded": 99990,
        "dead": 10,
        "canceled": 0,
    },
    "items": {"total": 1000000, "pending": 0},
    "throughput": 412.5,
    "eta": {"low_seconds": 1964, "high_seconds": 2400},
    "eta_reason": None,
    "errors": {"corrupt_file": 10},
    "blocked_on": None,
    "error": None,
}
TASK: dict[str, Any] = {"available": True, **TASKS["value"].described()}
FLEET: dict[str, Any] = {
    "workers": [
        {
            "name": "ocr-0",
            "host": "gpu-7",
            "pid": 4711,
            "device": "cuda:0",
            "engine": "vllm",
            "model": "HunyuanOCR",
            "revision": "a1b2c3",
            "tasks": ["text", "spotting", "parse"],
            "state": "ready",
            "alive": True,
            "slots": 8,
            "in_flight": 96,
            "pages_per_second": 41.2,
            "heartbeat_age": 0.7,
            "started_at": "2026-11-20T08:00:00Z",
            "last_error": None,
        }
    ],
    "backlog": {"bulk": {"jobs": 3, "pages": 901000}, "interactive": {"jobs": 1, "pages": 1}},
}
HEALTH: dict[str, Any] = {
    "status": "ready",
    "checks": {"postgres": "ok", "broker": "ok", "store": "ok"},
}


class Counts(BaseModel):
    """Pages by state; the states sum to `total`."""

    total: int
    ready: int
    dispatched: int
    running: int
    succeeded: int
    dead: int
    canceled: int


class ItemCounts(BaseModel):
    """Inputs found so far, and those whose pages are not counted yet."""

    total: int
    pending: int


class Eta(BaseModel):
    """Seconds until the job ends, as a range."""

    low_seconds: float
    high_seconds: float


class JobError(BaseModel):
    """Why a job as a whole failed or was canceled."""

    code: str
    detail: str


class Job(BaseModel):
    """A job and how far it is."""

    model_config = example(JOB)

    id: UUID
    state: JobState
    outcome: JobOutcome | None
    task: str
    priority: int
    labels: dict[str, str]
    input: dict[str, Any] = Field(description="As submitted; of inline objects only the `count`.")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expanded_at: Time | None = Field(description="When all pages were known; `total` may grow before.")
    deadline: Time | None
    generation: int
    output: dict[str, Any] = Field(description="As submitted; empty when nothing is written as the job runs.")
    webhook_ids: list[UUID]
    counts: Counts
    items: ItemCounts
    throughput: float | None = Field(description="Pages a second.")
    eta: Eta | None
    eta_reason: str | None = Field(description="Why there is no ETA.")
    errors: dict[str, int] = Field(description="Dead pages by error code.")
    blocked_on: str | None = Field(description="What keeps the job from going on.")
    error: JobError | None


class JobList(BaseModel):
    """Jobs, newest first."""

    data: list[Job]
    next_page_token: str | None


class TaskInfo(BaseModel):
    """A task of the catalogue."""

    name: str
    version: int
    output: OutputKind = Field(description="The member of a result that carries the answer.")
    description: str
    available: bool = Field(description="Whether this fleet's engines can do it.")
    prompts: dict[str, str] = Field(
        description="What a generative engine is asked, by language; none where the request brings the prompt."
    )
    parameters: Parameters = Field(description="What `options.parameters` may override.")
    needs: list[str] = Field(description="Members of a request of which one has to be given.")
    takes: list[str] = Field(description="Members that tasks without this entry refuse.")
    example: dict[str, Any] = Field(description="A body for POST /v1/jobs.")


class TaskList(BaseModel):
    """The catalogue."""

    model_config = example({"data": [TASK]})

    data: list[TaskInfo]


class WorkerInfo(BaseModel):
    """A worker, as of its last heartbeat."""

    name: str
    host: str
    pid: int
    device: str
    engine: str
    model: str
    revision: str
    tasks: list[str]
    state: WorkerState
    alive: bool
    slots: int
    in_flight: int
    pages_per_second: float
    heartbeat_age: float
    started_at: Time
    last_error: str | None


class LaneBacklog(BaseModel):
    """Unfinished jobs of a lane, and their pages that have no outcome yet."""

    model_config = ConfigDict(from_attributes=True)

    jobs: int
    pages: int


class Fleet(BaseModel):
    """The workers and what is before them."""

    model_config = example(FLEET)

    workers: list[WorkerInfo]
    backlog: dict[Lane, LaneBacklog]


class Health(BaseModel):
    """Whether the API can serve; `checks` has `ok` or the fault of each server."""

    model_config = example(HEALTH)

    status: str
    checks: dict[str, str]


class FieldProblem(BaseModel):
    """One fault of a request; `pointer` is a JSON pointer into its body, or `query:name`, `path:name`."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is what programs should look at."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str | None = Field(None, description="What to do about it; null where the detail says it all.")
    retryable: bool
    request_id: str
    errors: list[FieldProblem] | None = None
