"""What the API takes and gives, as types for callers of the Python SDK."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict


class Counts(TypedDict):
    """Pages by state; the states sum to `total`."""

    total: int
    ready: int
    dispatched: int
    running: int
    succeeded: int
    dead: int
    canceled: int


class Problem(TypedDict):
    """Why a job or a page failed."""

    code: str
    detail: str
    retryable: NotRequired[bool]


class Eta(TypedDict):
    """Seconds until the job ends, as a range."""

    low_seconds: float
    high_seconds: float


class Items(TypedDict):
    """Inputs found so far, and those whose pages are not counted yet."""

    total: int
    pending: int


class Job(TypedDict):
    """What GET /v1/jobs/{id} answers; times are ISO 8601."""

    id: str
    state: str
    outcome: str | None
    task: str
    priority: int
    labels: dict[str, str]
    input: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None
    expanded_at: str | None
    deadline: str | None
    generation: int
    output: dict[str, Any]
    webhook_ids: list[str]
    counts: Counts
    items: Items
    throughput: float | None
    eta: Eta | None
    eta_reason: str | None
    errors: dict[str, int]
    blocked_on: str | None
    error: Problem | None


class JobChanges(TypedDict, total=False):
    """What may be changed of a job; of one that has ended only the labels."""

    priority: int
    deadline: str | None
    """ISO 8601; None: no deadline."""
    labels: dict[str, str | None]
    """Put over those the job has; None takes one away."""


class Region(TypedDict):
    """A line of text; `box` is x0, y0, x1, y1 in pixels of the upright page."""

    text: str
    box: list[int]
    confidence: float | None


class Result(TypedDict):
    """One page's line of the results stream; a failed one has `error`, and `page` None if no page was reached."""

    seq: int
    job_id: str
    item_id: str
    custom_id: str | None
    bucket: str
    key: str
    member: NotRequired[str]
    """The path within the object, where that is an archive."""
    page: int | None
    state: str
    attempt: int
    error: NotRequired[Problem]
    text: NotRequired[str]
    markdown: NotRequired[str | None]
    regions: NotRequired[list[Region] | None]
    fields: NotRequired[dict[str, Any] | None]
    warnings: NotRequired[list[str]]


class Parameters(TypedDict):
    """How a generative engine samples; a job's `options["parameters"]` may override each by its name."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_tokens: int
    max_pixels: int | None


class TaskInfo(TypedDict):
    """A task; one of `needs` has to be given with it, `takes` are members that tasks without them refuse."""

    name: str
    version: int
    output: str
    description: str
    available: bool
    prompts: dict[str, str]
    parameters: Parameters
    needs: list[str]
    takes: list[str]
    example: dict[str, Any]


class ObjectRef(TypedDict):
    """An object of a store; also a manifest line, where `bucket` may be left out."""

    key: str
    bucket: NotRequired[str]
    custom_id: NotRequired[str]
    etag: NotRequired[str]
    pages: NotRequired[str]
    options: NotRequired[dict[str, Any]]


class ObjectsInput(TypedDict):
    """Objects named one by one; the API limits how many."""

    type: Literal["objects"]
    objects: list[ObjectRef]


class PrefixInput(TypedDict):
    """Every object whose key begins so, less what the globs leave out."""

    type: Literal["prefix"]
    bucket: str
    prefix: str
    include: NotRequired[list[str]]
    exclude: NotRequired[list[str]]


class ManifestInput(TypedDict):
    """A JSONL object of `ObjectRef`s, of any length."""

    type: Literal["manifest"]
    bucket: str
    key: str


class UploadsInput(TypedDict):
    """Complete uploads; the API limits how many."""

    type: Literal["uploads"]
    ids: list[str]


JobInput = ObjectsInput | PrefixInput | ManifestInput | UploadsInput


class LetterFilter(TypedDict, total=False):
    """Which dead letters are meant; what is given must all hold. Times are ISO 8601."""

    job_id: str
    codes: Sequence[str]
    page_ids: Sequence[str]
    worker: str
    revision: str
    created_after: str
    created_before: str
    all: bool
    """Has to be true where nothing else is given."""


class Letter(TypedDict):
    """A page that ended without a result; `page` is None where the input as a whole could not be read."""

    id: str
    state: str
    created_at: str | None
    job_id: str
    item_id: str
    custom_id: str | None
    bucket: str
    key: str
    member: str | None
    page: int | None
    code: str | None
    retryable: bool | None
    detail: str | None
    attempt: int
    worker: str | None
    device: str | None
    model: str | None
    revision: str | None
    discarded_at: str | None
    redrive_id: str | None


class Attempt(TypedDict):
    """One time that a page was tried and failed."""

    attempt: int
    fence: int
    code: str
    detail: str
    parameters: dict[str, Any]
    raw_tail: str | None
    worker: str | None
    device: str | None
    model: str | None
    revision: str | None
    exclusive: bool
    timings_ms: dict[str, int]
    started_at: str | None
    ended_at: str
    thumbnail: str | None


class LetterDetail(Letter):
    """A letter with all that is known of it."""

    error: dict[str, Any] | None
    thumbnail: str | None
    attempts: list[Attempt]


class LetterExample(TypedDict):
    """One letter of a group."""

    id: str
    code: str
    detail: str | None


class LetterGroup(TypedDict):
    """Letters that have something in common."""

    key: str | None
    count: int
    newest: str
    oldest: str
    example: LetterExample


class RedriveProgress(TypedDict):
    """What became of the pages that a redrive brought back."""

    ready: int
    running: int
    succeeded: int
    dead: int
    canceled: int


class Redrive(TypedDict):
    """Dead letters that run again; in lists without what is `remaining` and `left_out`."""

    id: str
    created_at: str
    finished_at: str | None
    filter: LetterFilter
    override: dict[str, Any]
    max_per_second: float | None
    reason: str | None
    pages: int
    progress: RedriveProgress
    remaining: NotRequired[int]
    left_out: NotRequired[dict[str, int]]


class RedrivePlan(TypedDict):
    """What a redrive would do; `by_job` has the jobs with the most pages."""

    pages: int
    by_code: dict[str, int]
    jobs: int
    by_job: dict[str, int]
    left_out: dict[str, int]
    seconds: float | None
