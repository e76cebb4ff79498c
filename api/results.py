"""The stream of a job's results, while it runs."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api import answers
from api.deps import GivenCaller, GivenServices
from api.jobs import find_job
from api.problems import documented
from api.schemas import Name, Text
from ocrfleet.db import Database
from ocrfleet.store import jobs, outcomes
from ocrfleet.store.outcomes import ResultFilter

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPE = "application/x-ndjson"
_CHUNK = 1000
_POLL = 0.5
_LEVEL = 3
"""Of gzip: four fifths of what the highest saves, in a fifth of its time."""
_SILENCE = 20
"""Polls without a result after which an empty line shows both sides that the connection lives."""
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
        **documented("not_found", "validation_failed"),
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

    It is compressed for who accepts gzip. A filter leaves the cursor behind all that was looked at.
    """
    await run_in_threadpool(find_job, services, caller, job_id)
    zipped = _accepts_gzip(accept_encoding)
    reader = _Reader(
        services.database, job_id, ResultFilter(state, code, custom_id), _Gzip() if zipped else None
    )
    headers = {"Vary": "Accept-Encoding", **({"Content-Encoding": "gzip"} if zipped else {})}
    return StreamingResponse(
        _stream(reader, int(cursor), limit, follow=follow), media_type=MEDIA_TYPE, headers=headers
    )


class _Gzip:
    """A stream whose parts can be read as they come."""

    def __init__(self) -> None:
        # 31: with the header and the trailer of gzip.
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)

    def pack(self, data: bytes, *, last: bool = False) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


@dataclass(frozen=True, slots=True)
class _Read:
    """What one look at the results has found."""

    ended: bool
    """The job had ended before: nothing comes after what is here."""
    lines: int
    data: bytes
    """As it is sent; of no lines an empty one, which shows both sides that the connection lives."""
    seq: int
    moved: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """Blocking; compresses on the thread that reads."""

    database: Database
    job_id: UUID
    which: ResultFilter
    gzip: _Gzip | None

    def read(self, seq: int, limit: int) -> _Read | None:
        """Whether the job had ended, then the next results (so that none can come between), and how far they go.

        None for a job that is deleted: asked last, since its results are taken away from then on.
        """
        with self.database.transaction() as session:
            ended = bool(jobs.ended(session, [self.job_id]))
            lines, reached = outcomes.chosen(session, self.job_id, seq, limit, self.which)
            if not jobs.is_there(session, self.job_id):
                return None
        return _Read(
            ended, len(lines), self.packed(b"".join(lines)) if lines else b"", reached, reached > seq
        )

    def packed(self, data: bytes, *, last: bool = False) -> bytes:
        return data if self.gzip is None else self.gzip.pack(data, last=last)


async def _stream(reader: _Reader, seq: int, limit: int | None, *, follow: bool) -> AsyncGenerator[bytes]:
    left, silent = limit, 0
    while left != 0:
        wanted = min(_CHUNK, _CHUNK if left is None else left)
        found = await run_in_threadpool(reader.read, seq, wanted)
        if found is None:
            # Deleted under the reader: without its last line the stream is no whole one.
            return
        seq = found.seq
        left = None if left is None else left - found.lines
        silent = 0 if found.lines else silent + 1
        if found.lines:
            yield found.data
        elif silent % _SILENCE == 0:
            yield reader.packed(b"\n")
        if not found.moved:
            if found.ended or not follow:
                break
            await asyncio.sleep(_POLL)
    yield reader.packed(orjson.dumps({"_end": True, "cursor": str(seq)}) + b"\n", last=True)


def _accepts_gzip(header: str) -> bool:
    """By RFC 9110: named, or all are, and not with the weight 0."""
    weights: dict[str, bool] = {}
    for one in header.lower().split(","):
        name, _, weight = one.partition(";")
        weights[name.strip()] = weight.strip() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return weights.get("gzip", weights.get("*", False))
