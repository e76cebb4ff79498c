"""The stream of a job's results, while it runs."""

import time
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api import answers
from api.deps import GivenCaller, GivenServices
from api.jobs import find_job
from api.problems import documented
from api.schemas import Name, Text
from api.waiting import Followers, JobWatch
from ocrfleet.db import Database
from ocrfleet.store import jobs, outcomes
from ocrfleet.store.jobs import Standing
from ocrfleet.store.outcomes import ResultFilter

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPE = "application/x-ndjson"
_CHUNK = 1000
_LEVEL = 3
"""Of gzip: four fifths of what the highest saves, in a fifth of its time."""
_SILENCE = 10.0
"""Seconds without a result after which an empty line shows both sides that the connection lives."""
_LINES = (answers.RESULT, answers.DEAD, {"_end": True, "cursor": "42"})
_EXAMPLE = "".join(orjson.dumps(line).decode() + "\n" for line in _LINES)


@router.get(
    "/{job_id}/results",
    summary="Read results, while the job runs",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "JSON lines: results and errors in order of `seq`, then `_end` with a cursor.",
            # One line alone is JSON as well, so that the body as a whole has no one type.
            "content": {MEDIA_TYPE: {"schema": {}, "example": _EXAMPLE}},
        },
        **documented("not_found", "validation_failed", "no_capacity"),
    },
)
async def get_results(
    job_id: UUID,
    caller: GivenCaller,
    services: GivenServices,
    cursor: Annotated[
        str,
        Query(
            pattern=r"^[0-9]{1,18}$",
            description="Go on behind this: the `cursor` of the last line, or the `seq` of any other.",
            examples=["42"],
        ),
    ] = "0",
    limit: Annotated[int | None, Query(ge=1, description="End after so many results.")] = None,
    state: Annotated[
        Literal["succeeded", "dead"] | None, Query(description="Only results, or errors.")
    ] = None,
    code: Annotated[Text | None, Query(max_length=64, description="Only errors with this code.")] = None,
    custom_id: Annotated[Name | None, Query(description="Only of inputs with this `custom_id`.")] = None,
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
    *,
    follow: Annotated[bool, Query(description="Go on until the job ends; empty lines may come.")] = False,
) -> StreamingResponse:
    """A stream that breaks before `_end` is resumed from the `seq` of its last whole line; nothing is skipped.

    It is compressed for who accepts gzip. A filter leaves the cursor behind all that was looked at. Too many streams
    that follow, your tenant's or everybody's, are refused.
    """
    await run_in_threadpool(find_job, services, caller, job_id)
    zipped = _accepts_gzip(accept_encoding)
    reader = Reader(
        services.database, job_id, ResultFilter(state, code, custom_id), _Gzip() if zipped else None
    )
    headers = {"Vary": "Accept-Encoding", **({"Content-Encoding": "gzip"} if zipped else {})}
    watch = services.watch if follow else None
    lines = stream_lines(reader, int(cursor), limit, watch)
    if watch is None:
        return StreamingResponse(lines, media_type=MEDIA_TYPE, headers=headers)
    answer = _Followed(lines, media_type=MEDIA_TYPE, headers=headers)
    answer.followers, answer.tenant_id = services.followers, caller.tenant_id
    return answer


class _Followed(StreamingResponse):
    """Has its place from before its first byte until it ends, however it does."""

    followers: Followers
    tenant_id: UUID

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.followers.one_more(self.tenant_id):
            await super().__call__(scope, receive, send)


class _Gzip:
    """A stream whose parts can be read as they come."""

    def __init__(self) -> None:
        # 31: with the header and the trailer of gzip.
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)

    def pack(self, data: bytes, *, last: bool = False) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


@dataclass(frozen=True, slots=True)
class Read:
    """What one look at the results has found."""

    job: Standing
    """As it was before: nothing comes after what is here if it had ended."""
    lines: int
    data: bytes
    """As it is sent; of no lines an empty one, which shows both sides that the connection lives."""
    seq: int
    moved: bool


@dataclass(frozen=True, slots=True)
class Reader:
    """Blocking; compresses on the thread that reads."""

    database: Database
    job_id: UUID
    which: ResultFilter
    gzip: _Gzip | None

    def read(self, seq: int, limit: int) -> Read | None:
        """How the job stood, then the next results (so that none can come between), and how far they go.

        None for a job that is deleted: asked last, since its results are taken away from then on.
        """
        with self.database.transaction() as session:
            job = next(iter(jobs.standing(session, [self.job_id])), Standing(self.job_id, True, ""))  # noqa: FBT003
            lines, reached = outcomes.chosen(session, self.job_id, seq, limit, self.which)
            if not jobs.is_there(session, self.job_id):
                return None
        data = self.packed(b"".join(lines)) if lines else b""
        return Read(job, len(lines), data, reached, reached > seq)

    def packed(self, data: bytes, *, last: bool = False) -> bytes:
        return data if self.gzip is None else self.gzip.pack(data, last=last)


async def stream_lines(
    reader: Reader, seq: int, limit: int | None, watch: JobWatch | None
) -> AsyncGenerator[bytes]:
    """The lines there are; with a `watch` those too that come until the job ends."""
    left, spoke = limit, time.monotonic()
    while left != 0:
        wanted = min(_CHUNK, _CHUNK if left is None else left)
        found = await run_in_threadpool(reader.read, seq, wanted)
        if found is None:
            # Deleted under the reader: without its last line the stream is no whole one.
            return
        seq = found.seq
        left = None if left is None else left - found.lines
        if found.lines or time.monotonic() - spoke >= _SILENCE:
            yield found.data or reader.packed(b"\n")
            spoke = time.monotonic()
        if not found.moved:
            if found.job.ended or watch is None:
                break
            await watch.changed(found.job.id, found.job.version, _SILENCE)
    yield reader.packed(orjson.dumps({"_end": True, "cursor": str(seq)}) + b"\n", last=True)


def _accepts_gzip(header: str) -> bool:
    """By RFC 9110: named, or all are, and not with the weight 0."""
    weights: dict[str, bool] = {}
    for one in header.lower().split(","):
        name, _, weight = one.partition(";")
        weights[name.strip()] = weight.strip() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return weights.get("gzip", weights.get("*", False))
