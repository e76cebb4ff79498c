"""What the API gives of webhooks: pydantic models, each with the example of the documentation."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.answers import JOB_ID, Time
from api.examples import example
from ocrfleet.states import DeliveryState

WEBHOOK_ID = "6f1c1f6e-2f6b-4b0c-9a51-0c8d1a3f5e77"
WEBHOOK: dict[str, Any] = {
    "id": WEBHOOK_ID,
    "url": "https://example.com/hooks/ocr",
    "description": "the archive",
    "events": ["job.completed", "job.failed"],
    "enabled": True,
    "fault": None,
    "created_at": "2026-11-20T09:00:00Z",
    "previous_secret_until": None,
}
SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAQIDBAUGBwg="}
EVENT: dict[str, Any] = {
    "type": "job.completed",
    "timestamp": "2026-11-20T09:41:07.120000Z",
    "data": {
        "job_id": JOB_ID,
        "generation": 1,
        "state": "completed",
        "outcome": "partial",
        "task": "text",
        "labels": {"batch": "nov"},
        "error": None,
        "created_at": "2026-11-20T09:00:00+00:00",
        "finished_at": "2026-11-20T09:41:07.12+00:00",
        "counts": {"items": 4, "total": 10, "succeeded": 9, "dead": 1, "canceled": 0},
        "links": {"job": f"/v1/jobs/{JOB_ID}", "results": f"/v1/jobs/{JOB_ID}/results"},
    },
}
DELIVERY: dict[str, Any] = {
    "id": "812",
    "message_id": f"{JOB_ID}-1-completed",
    "event": "job.completed",
    "payload": EVENT,
    "state": "waiting",
    "attempts": 2,
    "next_at": "2026-11-20T09:46:12Z",
    "status": 503,
    "error": "the receiver answered 503",
    "milliseconds": 41,
    "created_at": "2026-11-20T09:41:07Z",
    "delivered_at": None,
}
TEST: dict[str, Any] = {
    "delivered": False,
    "message_id": "test-0c9d3f6f1f0b4a0f8f4b8f0a1f4c7d11",
    "status": 401,
    "error": "the receiver answered 401",
    "milliseconds": 83,
    "body": "bad signature",
}


class Webhook(BaseModel):
    """A receiver; its secret is told once, when it is made or rotated."""

    model_config = example(WEBHOOK)

    id: UUID
    url: str
    description: str | None
    events: list[str] = Field(description="Types that it is sent; empty: all.")
    enabled: bool
    fault: str | None = Field(description="Why it was disabled, where nobody has asked for it.")
    created_at: Time
    previous_secret_until: Time | None = Field(description="Until then the secret before this one signs too.")


class WebhookSecret(Webhook):
    """A receiver with its secret, which is not shown again."""

    model_config = example(WEBHOOK | SECRET)

    secret: str


class WebhookList(BaseModel):
    """Webhooks, newest first."""

    model_config = example({"data": [WEBHOOK], "next_page_token": None})

    data: list[Webhook]
    next_page_token: str | None


class Delivery(BaseModel):
    """A message for one receiver, and how it went the last time it was sent."""

    model_config = example(DELIVERY)

    id: str
    message_id: str = Field(description="The header `webhook-id`, the same however often it is sent.")
    event: str
    payload: dict[str, Any]
    state: DeliveryState
    attempts: int
    next_at: Time = Field(description="When it is sent next, while it is `waiting`.")
    status: int | None = Field(description="Of the last answer; none: there was no answer.")
    error: str | None
    milliseconds: int | None
    created_at: Time
    delivered_at: Time | None


class DeliveryList(BaseModel):
    """Deliveries, newest first."""

    model_config = example({"data": [DELIVERY], "next_page_token": None})

    data: list[Delivery]
    next_page_token: str | None


class Replayed(BaseModel):
    """How many deliveries are sent again."""

    model_config = example({"replayed": 17})

    replayed: int


class Trial(BaseModel):
    """What the receiver said to a `webhook.test`."""

    model_config = example(TEST)

    delivered: bool = Field(description="It answered 2xx.")
    message_id: str
    status: int | None
    error: str | None
    milliseconds: int
    body: str = Field(description="The beginning of its answer.")
