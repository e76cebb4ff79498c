"""What the API gives of bucket rules, with the examples that the documentation shows."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.answers import JOB_ID, Time
from api.examples import example

_JOB: dict[str, Any] = {
    "task": "text",
    "options": {},
    "output": {"per_item": True, "prefix": "results/", "on_existing": "overwrite"},
    "priority": 0,
    "labels": {},
    "webhook_ids": [],
}
RULE: dict[str, Any] = {
    "id": "7",
    "name": "invoices",
    "bucket": "scans",
    "prefix": "in/",
    "suffix": ".pdf",
    "job": _JOB,
    "enabled": True,
    "rescan_seconds": 900,
    "rescan_at": "2026-11-20T09:45:00Z",
    "rescan_fault": None,
    "open_job_id": JOB_ID,
    "created_at": "2026-11-20T09:00:00Z",
}
RULE_EXAMPLES: dict[str, Any] = {
    "text": {
        "summary": "Every PDF below in/, results beside",
        "value": {
            "name": "invoices",
            "bucket": "scans",
            "prefix": "in/",
            "suffix": ".pdf",
            "job": {"task": "text", "output": {"per_item": True, "prefix": "results/"}},
        },
    },
}


class RuleInfo(BaseModel):
    """A rule, how its last listing went, and what it fills."""

    model_config = example(RULE)

    id: str
    name: str
    bucket: str
    prefix: str
    suffix: str
    job: dict[str, Any] = Field(description="As submitted, completed with what it means.")
    enabled: bool
    rescan_seconds: int
    rescan_at: Time = Field(description="When the prefix is listed next, or since when it is being listed.")
    rescan_fault: str | None = Field(description="Why it could not be listed the last time.")
    open_job_id: UUID | None = Field(description="The job that takes what comes just now.")
    created_at: Time


class RuleList(BaseModel):
    """Rules, newest first."""

    model_config = example({"data": [RULE], "next_page_token": None})

    data: list[RuleInfo]
    next_page_token: str | None
