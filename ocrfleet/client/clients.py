"""The clients: every call of the mixins, over either transport."""

from importlib import import_module
from typing import Self, Unpack

import httpx

from ocrfleet.client.buckets import BucketCalls
from ocrfleet.client.exports import ExportCalls
from ocrfleet.client.fleet import FleetCalls
from ocrfleet.client.handles import AsyncJobHandle, JobHandle
from ocrfleet.client.jobs import JobCalls, JobOptions
from ocrfleet.client.letters import LetterCalls
from ocrfleet.client.sources import Source, submitting
from ocrfleet.client.transports import AsyncTransport, SyncTransport, options
from ocrfleet.client.uploads import UploadCalls
from ocrfleet.client.webhooks import WebhookCalls

ATTEMPTS = 8
SILENCE = 30.0
"""Seconds."""


class Calls(JobCalls, LetterCalls, ExportCalls, UploadCalls, WebhookCalls, BucketCalls, FleetCalls):
    """Every call of the API; what each is asked and what it answers is the same in both clients."""

    def __init__(self, url: str, key: str, *, attempts: int) -> None:
        if not url:
            raise ValueError("name the API: its url and a key, or OCRFLEET_URL and OCRFLEET_API_KEY")
        self.url = url.rstrip("/")
        self.key = key
        self.attempts = attempts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class Client(Calls, SyncTransport):
    """One API under one key; threads may share it.

    `url` such as http://127.0.0.1:8000, `key` ocrk_…, without them OCRFLEET_URL and OCRFLEET_API_KEY; `timeout`: seconds of silence after which a try has failed;
    `attempts` bounds the tries of one call, while streams may break any number of times. A call raises ApiError for a
    refusal, UnreachableError when no try was answered.
    """

    def __init__(
        self, url: str = "", key: str = "", *, timeout: float = SILENCE, attempts: int = ATTEMPTS
    ) -> None:
        url, key = (url, key) if url else _from_environment()
        Calls.__init__(self, url, key, attempts=attempts)
        SyncTransport.__init__(self, httpx.Client(**options(self.url, key, timeout)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, source: Source, *, task: str = "text", **options: Unpack[JobOptions]) -> JobHandle:
        """Submit a job and go on with it: `submit(…).wait()`.

        `source` is s3://BUCKET/PREFIX, s3://BUCKET/KEY of a manifest (.jsonl, .csv), a list of s3:// addresses, local
        files and folders, which are uploaded first, or an input as `create_job` takes it.
        """
        return JobHandle(self, self.carry_out(submitting(self, source, task, options)))

    def attach(self, job_id: str) -> JobHandle:
        """The handle of a job that was submitted before; nothing is asked."""
        return JobHandle(self, job_id)


class AsyncClient(Calls, AsyncTransport):
    """The same for one event loop: calls are awaited, lists and streams are read with `async for`."""

    def __init__(
        self, url: str = "", key: str = "", *, timeout: float = SILENCE, attempts: int = ATTEMPTS
    ) -> None:
        url, key = (url, key) if url else _from_environment()
        Calls.__init__(self, url, key, attempts=attempts)
        AsyncTransport.__init__(self, httpx.AsyncClient(**options(self.url, key, timeout)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def submit(
        self, source: Source, *, task: str = "text", **options: Unpack[JobOptions]
    ) -> AsyncJobHandle:
        """Submit a job and go on with it; see `Client.submit`."""
        return AsyncJobHandle(self, await self.carry_out(submitting(self, source, task, options)))

    def attach(self, job_id: str) -> AsyncJobHandle:
        """The handle of a job that was submitted before; nothing is asked."""
        return AsyncJobHandle(self, job_id)


def _from_environment() -> tuple[str, str]:
    # Settings are costly to load, and who names both has no use for them.
    known = import_module("ocrfleet.settings").Settings()
    return known.url, known.api_key.get_secret_value()
