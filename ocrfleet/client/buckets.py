"""Calls about buckets that are read unasked: rules, the stores that tell of objects, and what they have told."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, Unpack

from ocrfleet.client.asks import Calls, given, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.steps import Steps, Stream


class BucketRule(TypedDict):
    """Which objects are read, and how; `rescan_fault` says why their listing failed the last time."""

    id: str
    name: str
    bucket: str
    prefix: str
    suffix: str
    job: dict[str, Any]
    enabled: bool
    rescan_seconds: int
    rescan_at: str
    rescan_fault: str | None
    open_job_id: str | None
    created_at: str


class BucketRuleChanges(TypedDict, total=False):
    """What is not named stays; `job` is replaced as a whole."""

    name: str
    prefix: str
    suffix: str
    job: Mapping[str, Any]
    enabled: bool
    rescan_seconds: int


class EventSource(TypedDict):
    """A store that may tell of its buckets; its `token` is told once, when it is made."""

    id: str
    name: str
    created_at: str
    last_event_at: NotRequired[str | None]
    quarantined: NotRequired[int]
    token: NotRequired[str]
    path: NotRequired[str]


class BucketEvent(TypedDict):
    """What a store has told; with a `fault` it could not be read."""

    id: str
    source: str
    bucket: str | None
    key: str | None
    version_id: str | None
    etag: str | None
    bytes: int | None
    fault: str | None
    raw: str
    received_at: str
    handled_at: str | None


class BucketCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @stream
    def bucket_rules(self, *, name: str | None = None, page_size: int = 100) -> Stream[BucketRule]:
        """Every rule, newest first, or the one of that name."""
        return self.listed("/v1/bucket-rules", given(name=name, page_size=page_size))

    @call
    def bucket_rule(self, rule_id: str) -> Steps[BucketRule]:
        """One rule."""
        return self.get(f"/v1/bucket-rules/{part(rule_id)}")

    @call
    def create_bucket_rule(
        self,
        name: str,
        *,
        bucket: str | None = None,
        prefix: str = "",
        suffix: str = "",
        job: Mapping[str, Any] | None = None,
        enabled: bool = True,
        rescan_seconds: int | None = None,
    ) -> Steps[BucketRule]:
        """Read what is below the prefix, and what comes there. `job`: task, options, output… as of `create_job`."""
        body: dict[str, Any] = {"name": name, "prefix": prefix, "suffix": suffix, "job": job or {}}
        body |= given(bucket=bucket, enabled=enabled, rescan_seconds=rescan_seconds)
        return self.send("POST", "/v1/bucket-rules", body)

    @call
    def update_bucket_rule(self, rule_id: str, **changes: Unpack[BucketRuleChanges]) -> Steps[BucketRule]:
        """Change what is named; its prefix is listed anew."""
        return self.send("PATCH", f"/v1/bucket-rules/{part(rule_id)}", changes)

    @call
    def delete_bucket_rule(self, rule_id: str) -> Steps[BucketRule]:
        """Delete it; its jobs stay. The answer is the last of it."""
        return self.send("DELETE", f"/v1/bucket-rules/{part(rule_id)}")

    @stream
    def event_sources(self, *, page_size: int = 100) -> Stream[EventSource]:
        """Every store that may tell of its buckets, newest first."""
        return self.listed("/v1/event-sources", {"page_size": page_size})

    @call
    def create_event_source(self, name: str) -> Steps[EventSource]:
        """Let a store tell of its buckets; the answer has its token."""
        return self.send("POST", "/v1/event-sources", {"name": name})

    @call
    def delete_event_source(self, source_id: str) -> Steps[EventSource]:
        """Refuse its token from now on, and forget what it has told."""
        return self.send("DELETE", f"/v1/event-sources/{part(source_id)}")

    @stream
    def bucket_events(self, *, quarantined: bool | None = None, page_size: int = 100) -> Stream[BucketEvent]:
        """What stores have told, newest first; all, or what could not be read."""
        only = None if quarantined is None else str(quarantined).lower()
        return self.listed("/v1/bucket-events", given(quarantined=only, page_size=page_size))
