"""What the API gives of dead letters and redrives: pydantic models, each with the example of the documentation."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.answers import JOB_ID, Time
from api.examples import example
from ocrfleet.states import PageState

LETTER: dict[str, Any] = {
    "id": "120201",
    "state": "dead",
    "created_at": "2026-11-20T09:14:03Z",
    "job_id": JOB_ID,
    "item_id": "1202",
    "custom_id": "inv-18",
    "bucket": "scans",
    "key": "2026/b.png",
    "page": 1,
    "code": "output_truncated",
    "retryable": True,
    "detail": "The output reached the limit of 8192 tokens.",
    "attempt": 4,
    "worker": "ocr@gpu-7",
    "device": "cuda:0",
    "model": "tencent/HunyuanOCR",
    "revision": "a1b2c3",
    "discarded_at": None,
    "redrive_id": None,
}
ATTEMPT: dict[str, Any] = {
    "attempt": 4,
    "fence": 4,
    "code": "output_truncated",
    "detail": "The output reached the limit of 8192 tokens.",
    "parameters": {"task": "text", "temperature": 0.3, "max_tokens": 8192},
    "raw_tail": "… total total total total",
    "worker": "ocr@gpu-7",
    "device": "cuda:0",
    "model": "tencent/HunyuanOCR",
    "revision": "a1b2c3",
    "exclusive": False,
    "timings_ms": {"queue": 12, "fetch": 8, "decode": 20, "wait": 3, "infer": 41200},
    "started_at": "2026-11-20T09:13:22Z",
    "ended_at": "2026-11-20T09:14:03Z",
    "thumbnail": f"thumbnails/{JOB_ID}/120201-4.jpg",
}
LETTER_DETAIL: dict[str, Any] = LETTER | {
    "error": {"code": "output_truncated", "retryable": True, "detail": ATTEMPT["detail"]},
    "thumbnail": "/v1/dead-letters/120201/thumbnail",
    "attempts": [ATTEMPT],
}
GROUP: dict[str, Any] = {
    "key": "output_truncated",
    "count": 312,
    "newest": "2026-11-20T09:14:03Z",
    "oldest": "2026-11-20T09:02:47Z",
    "example": {"id": "120201", "code": "output_truncated", "detail": ATTEMPT["detail"]},
}
REDRIVE: dict[str, Any] = {
    "id": "17",
    "created_at": "2026-11-20T10:00:00Z",
    "finished_at": "2026-11-20T10:00:01Z",
    "filter": {"job_id": JOB_ID, "codes": ["output_truncated"]},
    "override": {"options": {"parameters": {"max_tokens": 16384}}},
    "max_per_second": 50.0,
    "reason": "more tokens",
    "pages": 312,
    "progress": {"ready": 200, "running": 12, "succeeded": 98, "dead": 2, "canceled": 0},
}
REDRIVE_DETAIL: dict[str, Any] = REDRIVE | {"remaining": 0, "left_out": {"canceled": 4}}
REDRIVE_PLAN: dict[str, Any] = {
    "pages": 312,
    "by_code": {"output_truncated": 312},
    "jobs": 1,
    "by_job": {JOB_ID: 312},
    "left_out": {"canceled": 4},
    "seconds": 6.24,
}


class Letter(BaseModel):
    """A page that ended without a result; its id is the page's, for good."""

    model_config = example(LETTER)

    id: str
    state: PageState = Field(description="Other than `dead` once a redrive has brought it back.")
    created_at: Time | None = Field(description="When it died.")
    job_id: UUID
    item_id: str
    custom_id: str | None
    bucket: str
    key: str
    member: str | None = Field(None, description="The path within the object, where that is an archive.")
    page: int | None = Field(description="None: the input as a whole could not be read.")
    code: str | None
    retryable: bool | None = Field(description="Whether the same input may succeed another time.")
    detail: str | None
    attempt: int = Field(description="How often it has been tried.")
    worker: str | None = Field(description="Of the last attempt, as the other members behind it.")
    device: str | None
    model: str | None
    revision: str | None
    discarded_at: Time | None
    redrive_id: str | None = Field(description="The last redrive that brought it back.")


class Attempt(BaseModel):
    """One time that a page was tried and failed."""

    model_config = example(ATTEMPT)

    attempt: int
    fence: int
    code: str
    detail: str
    parameters: dict[str, Any] = Field(description="What was asked of the engine.")
    raw_tail: str | None = Field(description="The end of what the model had written.")
    worker: str | None
    device: str | None
    model: str | None
    revision: str | None
    exclusive: bool = Field(description="The page had the worker for itself.")
    timings_ms: dict[str, int]
    started_at: Time | None
    ended_at: Time
    thumbnail: str | None = Field(description="Key in the fleet's own bucket.")


class LetterDetail(Letter):
    """A letter with all that is known of it."""

    model_config = example(LETTER_DETAIL)

    error: dict[str, Any] | None = Field(description="As in the job's results, with limits and the like.")
    thumbnail: str | None = Field(
        description="Path of a small JPEG of the page, where its pixels were known."
    )
    attempts: list[Attempt]


class LetterList(BaseModel):
    """Dead letters, newest first."""

    model_config = example({"data": [LETTER], "next_page_token": None})

    data: list[Letter]
    next_page_token: str | None


class LetterExample(BaseModel):
    """One letter of a group."""

    id: str
    code: str
    detail: str | None


class LetterGroup(BaseModel):
    """Letters that have something in common."""

    key: str | None = Field(
        description="The code, revision, worker or job; None where no worker was reached."
    )
    count: int
    newest: Time
    oldest: Time
    example: LetterExample


class LetterGroups(BaseModel):
    """Groups of dead letters, the largest first."""

    model_config = example({"data": [GROUP]})

    data: list[LetterGroup]


class Discarded(BaseModel):
    """What was given up."""

    model_config = example({"discarded": 312})

    discarded: int


class Progress(BaseModel):
    """What became of the pages whose last redrive it was, further pages of their documents among them."""

    ready: int
    running: int
    succeeded: int
    dead: int
    canceled: int


class Redrive(BaseModel):
    """Dead letters that run again."""

    model_config = example(REDRIVE)

    id: str
    created_at: Time
    finished_at: Time | None = Field(description="When the last letter had been made ready to run.")
    filter: dict[str, Any]
    override: dict[str, Any]
    max_per_second: float | None
    reason: str | None
    pages: int = Field(description="Brought back so far.")
    progress: Progress


class RedriveList(BaseModel):
    """Redrives, newest first."""

    model_config = example({"data": [REDRIVE], "next_page_token": None})

    data: list[Redrive]
    next_page_token: str | None


class RedriveDetail(Redrive):
    """A redrive, and what its filter still meets."""

    model_config = example(REDRIVE_DETAIL)

    remaining: int = Field(description="Letters still to be brought back.")
    left_out: dict[str, int] = Field(
        description="Letters that cannot run again, by the reason: the state of their job, its deadline, or "
        "`manifest_invalid`, a line that names no object."
    )


class RedrivePlan(BaseModel):
    """What a redrive would do."""

    model_config = example(REDRIVE_PLAN)

    pages: int
    by_code: dict[str, int]
    jobs: int
    by_job: dict[UUID, int] = Field(description="The 100 jobs with the most.")
    left_out: dict[str, int]
    seconds: float | None = Field(description="How long it takes to let them go at `max_per_second`.")
