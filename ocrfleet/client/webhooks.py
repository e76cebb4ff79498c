"""Calls about webhooks: making them, seeing how their deliveries went, sending again."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack

from ocrfleet.client.asks import Calls, given, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.steps import Steps, Stream
from ocrfleet.webhooks import Event


class Webhook(TypedDict):
    """A receiver; its `secret` is told once, when it is made or rotated."""

    id: str
    url: str
    description: str | None
    events: list[str]
    enabled: bool
    fault: str | None
    created_at: str
    previous_secret_until: str | None
    secret: NotRequired[str]


class WebhookChanges(TypedDict, total=False):
    """What is not named stays."""

    url: str
    description: str | None
    events: Sequence[str]
    enabled: bool


class Delivery(TypedDict):
    """A message for one receiver, and how it went the last time; `state` is waiting, delivered or failed."""

    id: str
    message_id: str
    event: str
    payload: Event
    state: str
    attempts: int
    next_at: str
    status: int | None
    error: str | None
    milliseconds: int | None
    created_at: str
    delivered_at: str | None


class Trial(TypedDict):
    """What the receiver said to a `webhook.test`."""

    delivered: bool
    message_id: str
    status: int | None
    error: str | None
    milliseconds: int
    body: str


class WebhookCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @stream
    def webhooks(self, *, page_size: int = 100) -> Stream[Webhook]:
        """Every webhook, newest first, fetched page by page as the caller goes on."""
        return self.listed("/v1/webhooks", {"page_size": page_size})

    @call
    def webhook(self, webhook_id: str) -> Steps[Webhook]:
        """One webhook, without its secret."""
        return self.get(_path(webhook_id))

    @call
    def create_webhook(
        self, url: str, *, events: Sequence[str] = (), description: str | None = None
    ) -> Steps[Webhook]:
        """Add a receiver; no `events` are all. The answer has its secret, for `ocrfleet.webhooks.verify`."""
        body = {"url": url, "events": list(events), "description": description}
        return self.send("POST", "/v1/webhooks", body)

    @call
    def update_webhook(self, webhook_id: str, **changes: Unpack[WebhookChanges]) -> Steps[Webhook]:
        """Change what is named."""
        return self.send("PATCH", _path(webhook_id), changes)

    @call
    def delete_webhook(self, webhook_id: str) -> Steps[None]:
        """Take it away with its deliveries."""
        return self.send("DELETE", _path(webhook_id))

    @call
    def rotate_webhook_secret(self, webhook_id: str) -> Steps[Webhook]:
        """Give it a new secret, which the answer has; the old one signs too for 24 hours."""
        return self.send("POST", f"{_path(webhook_id)}/rotate-secret")

    @call
    def test_webhook(self, webhook_id: str) -> Steps[Trial]:
        """Send it a `webhook.test` now."""
        return self.send("POST", f"{_path(webhook_id)}/test")

    @stream
    def deliveries(
        self, webhook_id: str, *, state: str | None = None, event: str | None = None, page_size: int = 100
    ) -> Stream[Delivery]:
        """What it was sent, newest first, fetched page by page as the caller goes on."""
        query = given(state=state, event=event, page_size=page_size)
        return self.listed(f"{_path(webhook_id)}/deliveries", query)

    @call
    def replay_delivery(self, webhook_id: str, delivery_id: str) -> Steps[Delivery]:
        """Send one again, under the same message id."""
        return self.send("POST", f"{_path(webhook_id)}/deliveries/{part(delivery_id)}/replay")

    @call
    def replay_deliveries(
        self, webhook_id: str, *, since: str, until: str | None = None, state: str = "failed"
    ) -> Steps[int]:
        """Send again what was made in that time (ISO 8601) and stands so; returns how many."""
        body = given(since=since, until=until, state=state)
        return (yield from self.send("POST", f"{_path(webhook_id)}/replay", body))["replayed"]


def _path(webhook_id: str) -> str:
    return f"/v1/webhooks/{part(webhook_id)}"
