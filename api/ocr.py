"""Reading one image while the caller waits."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api import answers, buckets, rules, schemas
from api.deps import GivenCaller, GivenServices, Services
from api.images import Image, check_size, read_image
from api.jobs import find_job
from api.problems import documented
from api.quota import check_day
from ocrfleet.errors import (
    BY_CODE,
    Canceled,
    DeadlineExceeded,
    FleetError,
    Internal,
    JobStateConflict,
    NoCapacity,
    NotFound,
)
from ocrfleet.states import Lane
from ocrfleet.store import control, jobs, lanes, outcomes
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1/ocr", tags=["ocr"])

_CLIENT_CLOSED = 499
_AFTERWARDS = 30.0
"""Seconds after the caller's patience in which this API, if it lives, cancels the job itself."""
_FORM_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "task": {"type": "string", "default": "text"},
        "prompt": {"type": "string"},
        "fields": {"type": "string", "description": "JSON.", "examples": ['["number","total"]']},
        "output_schema": {"type": "string", "description": "JSON.", "examples": ['{"type":"object",…}']},
        "options": {"type": "string", "description": "JSON.", "examples": ['{"password":"…"}']},
    },
}
_JSON_EXAMPLES = {
    "base64": {"summary": "The image itself", "value": {"image": "iVBORw0KGgo…", "task": "text"}},
    "object": {
        "summary": "An object",
        "value": {"image": {"bucket": "scans", "key": "a.png"}, "task": "text"},
    },
    "extract": {
        "summary": "Fields as JSON",
        "value": {"image": {"key": "invoice.png"}, "task": "extract", "fields": ["number", "total"]},
    },
    "question": {
        "summary": "A question about the image",
        "value": {"image": {"key": "letter.png"}, "task": "question", "prompt": "Who signed this letter?"},
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM_SCHEMA},
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{schemas.OcrRequest.__name__}"},
            "examples": _JSON_EXAMPLES,
        },
    },
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N` waits at most N seconds; with `respond-async` the answer is then 202 and the work goes on "
    "until the job's `deadline`, otherwise 504 and it is canceled.",
    "schema": {"type": "string"},
    "example": "wait=10, respond-async",
}

_REFUSED = documented(
    "validation_failed", "unknown_task", "prompt_too_long", "file_too_large", "empty_file",
    "unsupported_media_type", "corrupt_file", "input_not_found", "no_capacity", "deadline_exceeded",
    "inference_timeout", "canceled",
)  # fmt: skip
_REFUSED[429] |= {
    "description": "Your tenant asks too often, or has used up a quota of its day: `quota`, `limit` and `actual` say "
    "which.",
    "headers": {
        "Retry-After": {
            "description": "Seconds until the minute or the day starts anew.",
            "schema": {"type": "integer"},
        }
    },
}


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the caller waits (seconds), and what then."""

    wait: float
    respond_async: bool

    @classmethod
    def read(cls, headers: list[str], longest: float) -> Self:
        """RFC 7240; what is not understood is ignored, as it says."""
        asked = {token.strip().lower() for header in headers for token in header.split(",")}
        respond_async = "respond-async" in asked
        waits = [token[5:] for token in asked if token.startswith("wait=") and token[5:].isdecimal()]
        default = 0.0 if respond_async else longest
        return cls(min(float(waits[0]), longest) if waits else default, respond_async)


@router.post(
    "",
    summary="Read one image now",
    openapi_extra={"requestBody": _BODY, "parameters": [_PREFER]},
    responses={
        200: {
            "description": "The result, as in a job's results.",
            "content": {"application/json": {"schema": {"type": "object"}, "example": answers.RESULT}},
        },
        202: {
            "description": "It goes on without you: see `Location`.",
            "model": answers.Job,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **_REFUSED,
    },
)
async def recognize(request: Request, caller: GivenCaller, services: GivenServices) -> Response:
    """A page that fails answers with its own code and status. When you hang up, the work is canceled."""
    config = services.settings
    preference = Preference.read(request.headers.getlist("Prefer"), config.sync_wait)
    # Refused before the image is even read; capacity is asked for again, under a lock, when the page is added.
    await run_in_threadpool(_check_room, services, caller)
    image = await read_image(request, config.sync_max_bytes)
    job_id = uuid4()
    with services.watch.expect(job_id) as ended:
        seconds = config.async_wait if preference.respond_async else preference.wait + _AFTERWARDS
        deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        await run_in_threadpool(_submit, services, caller, job_id, image, deadline)
        hung_up = await _wait(ended, request, preference.wait)
    if not ended.is_set():
        if preference.respond_async and not hung_up:
            return await _accepted(services, caller, job_id)
        because = Canceled if hung_up else DeadlineExceeded
        canceled = await run_in_threadpool(_cancel, services, caller, job_id, because)
        if hung_up:
            return Response(status_code=_CLIENT_CLOSED)
        if canceled:
            raise DeadlineExceeded(
                f"The page was not done within {preference.wait:g} s; it is canceled.", limit=preference.wait
            )
    line = await run_in_threadpool(_result, services, caller, job_id)
    return Response(line, media_type="application/json")


def _check_room(services: Services, caller: Caller) -> None:
    """RateLimited if the page would wait for tomorrow's quota, NoCapacity if the fleet is full."""
    check_day(services.liveness.get(), caller.tenant_id)
    limit = rules.interactive_limit(services)
    with services.database.transaction() as session:
        rules.check_capacity(session, caller.tenant_id, limit, services.settings.interactive_share)


def _submit(services: Services, caller: Caller, job_id: UUID, image: Image, deadline: datetime) -> None:
    """Put the bytes and make the job, or neither. The deadline ends a job whose waiting API died, or that nobody waits for."""
    asked = image.parameters
    options = rules.check_wanted(services, asked)
    limit = rules.interactive_limit(services)
    bucket, key, etag = _place(services, caller, job_id, image.content)
    job = NewJob(
        id=job_id,
        tenant_id=caller.tenant_id,
        task=asked.task,
        input={"type": "objects", "objects": [{"bucket": bucket, "key": key}]},
        lane=Lane.INTERACTIVE,
        prompt=asked.prompt,
        options=options,
        deadline=deadline,
    )
    try:
        with services.database.transaction() as session:
            lanes.lock_admission(session)
            rules.check_capacity(session, caller.tenant_id, limit, services.settings.interactive_share)
            jobs.create_single(session, job, bucket=bucket, key=key, etag=etag)
    except NoCapacity:
        if isinstance(image.content, bytes):
            with suppress(FleetError):
                services.blobs.remove(bucket, key)
        raise


def _place(
    services: Services, caller: Caller, job_id: UUID, content: bytes | schemas.ImageRef
) -> tuple[str, str, str]:
    """Bucket, key and ETag of the image; bytes are put there."""
    config = services.settings
    if isinstance(content, schemas.ImageRef):
        bucket = content.bucket or config.bucket
        buckets.rights_of(services, caller).check_readable(bucket, content.key)
        info = services.blobs.stat(bucket, content.key)
        check_size(info.size, config.sync_max_bytes)
    else:
        key = f"interactive/{datetime.now(UTC):%Y%m%d%H}/{job_id}"
        info = services.blobs.put(config.bucket, key, content, "application/octet-stream")
    return info.bucket, info.key, info.etag


async def _wait(ended: asyncio.Event, request: Request, seconds: float) -> bool:
    """Until the job has ended, the time is over or the caller hung up; whether it was the last."""
    gone = asyncio.create_task(_hang_up(request))
    done = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait((gone, done), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return gone.done()
    finally:
        gone.cancel()
        done.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _accepted(services: Services, caller: Caller, job_id: UUID) -> Response:
    job = await run_in_threadpool(find_job, services, caller, job_id)
    headers = {"Location": f"/v1/jobs/{job_id}", "Preference-Applied": "respond-async"}
    return Response(job.model_dump_json(), 202, headers, "application/json")


def _cancel(services: Services, caller: Caller, job_id: UUID, because: type[FleetError]) -> bool:
    """False if the job has ended after all."""
    try:
        with services.database.transaction() as session:
            control.cancel(session, caller.tenant_id, job_id, because)
    except JobStateConflict:
        return False
    return True


def _result(services: Services, caller: Caller, job_id: UUID) -> bytes:
    """The one result line of a job that has ended; its error is raised."""
    with services.database.transaction() as session:
        found = next(iter(outcomes.after(session, job_id, 0, 1)), None)
        job = jobs.get(session, caller.tenant_id, job_id)
    if job is None:
        raise NotFound(f"The job {job_id} was deleted.")
    if found is None:
        fault: dict[str, Any] = job["error"] or {}
        raise _error({"code": Canceled.code, **fault}, job_id)
    line = found[1]
    members = orjson.loads(line)
    if "error" in members:
        raise _error(members["error"], job_id)
    return line


def _error(members: dict[str, Any], job_id: UUID) -> FleetError:
    """The error that a page or job ended with, as it was before it was written down."""
    extra = {name: value for name, value in members.items() if name not in ("code", "detail", "retryable")}
    return BY_CODE.get(members["code"], Internal)(members.get("detail", ""), **extra, job_id=str(job_id))
