"""What the API gives of items and their pages: pydantic models, each with the example of the documentation."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.answers import JOB_ID, Time
from api.examples import example
from api.letter_answers import ATTEMPT, Attempt
from ocrfleet.states import PageState

ItemStateName = Literal["pending", "running", "succeeded", "partial", "dead", "canceled"]
ITEM: dict[str, Any] = {
    "id": "1201",
    "job_id": JOB_ID,
    "ordinal": 1200,
    "bucket": "scans",
    "key": "2026/a.pdf",
    "member": None,
    "etag": "9f86d081884c7d65",
    "version_id": None,
    "bytes": 218331,
    "custom_id": "inv-17",
    "state": "partial",
    "code": "output_truncated",
    "page_count": 3,
    "pages": {
        "total": 3,
        "ready": 0,
        "dispatched": 0,
        "running": 0,
        "succeeded": 2,
        "dead": 1,
        "canceled": 0,
    },
}
PAGE: dict[str, Any] = {
    "id": "120201",
    "number": 2,
    "state": "dead",
    "attempt": 4,
    "failures": 4,
    "losses": 0,
    "since": "2026-11-20T09:14:03Z",
    "seq": 42,
    "code": "output_truncated",
    "detail": "The output reached the limit of 8192 tokens.",
}


def _list(row: dict[str, Any]) -> ConfigDict:
    return example({"data": [row], "next_page_token": None})


class PageCounts(BaseModel):
    """Pages by state; the states sum to `total`."""

    total: int
    ready: int
    dispatched: int
    running: int
    succeeded: int
    dead: int
    canceled: int


class Item(BaseModel):
    """An input of a job, and what its pages have come to."""

    model_config = example(ITEM)

    id: str
    job_id: UUID
    ordinal: int = Field(description="Its place in the job's input, from 0.")
    bucket: str
    key: str
    member: str | None = Field(description="The path within the object, where that is an archive.")
    etag: str | None
    version_id: str | None
    bytes: int | None
    custom_id: str | None
    state: ItemStateName = Field(
        description="`pending`: its pages are not counted yet; `running`: some are not done; `succeeded`: all were "
        "read; `partial`: some were; `dead`: none was; `canceled`."
    )
    code: str | None = Field(description="Of its first dead page.")
    page_count: int | None = Field(description="Of the document; fewer may have been asked for.")
    pages: PageCounts


class ItemList(BaseModel):
    """Items in the order of the job's input; with a filter a page may have fewer than asked for, and yet a token."""

    model_config = _list(ITEM)

    data: list[Item]
    next_page_token: str | None


class ItemPage(BaseModel):
    """A page of an item."""

    model_config = example(PAGE)

    id: str
    number: int = Field(description="From 1; 0 stands for an item that could not be read at all.")
    state: PageState
    attempt: int = Field(description="How often it was begun.")
    failures: int = Field(description="Those that were the page's own fault.")
    losses: int = Field(description="Workers that vanished under it.")
    since: Time = Field(description="When it entered its state.")
    seq: int | None = Field(description="Of its line in the job's results.")
    code: str | None
    detail: str | None


class ItemPageList(BaseModel):
    """Pages by number."""

    model_config = _list(PAGE)

    data: list[ItemPage]
    next_page_token: str | None


class ItemAttempt(Attempt):
    """One time that a page of the item was tried and failed."""

    model_config = example({"page_id": "120201", "page": 2, **ATTEMPT})

    page_id: str
    page: int | None = Field(description="None: the input as a whole.")


class ItemAttemptList(BaseModel):
    """Attempts by page, oldest first."""

    model_config = _list({"page_id": "120201", "page": 2, **ATTEMPT})

    data: list[ItemAttempt]
    next_page_token: str | None
