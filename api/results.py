"""The stream of a job's results, while it runs."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api import answers
from api.deps import GivenCaller, GivenServices
from api.jobs import find_job
from api.problems import documented
from ocrfleet.db import Database
from ocrfleet.store import jobs, outcomes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPE = "application/x-ndjson"
_CHUNK = 1000
_POLL = 0.5
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
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
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
    *,
    follow: Annotated[bool, Query(description="Go on until the job ends; empty lines may come.")] = False,
) -> StreamingResponse:
    """A stream that breaks before `_end` is resumed from the `seq` of its last whole line; nothing is skipped."""
    await run_in_threadpool(find_job, services, caller, job_id)
    lines = _stream(services.database, job_id, int(cursor), limit, follow=follow)
    return StreamingResponse(lines, media_type=MEDIA_TYPE)


async def _stream(
    database: Database, job_id: UUID, seq: int, limit: int | None, *, follow: bool
) -> AsyncGenerator[bytes]:
    left, silent = limit, 0
    while left != 0:
        wanted = min(_CHUNK, _CHUNK if left is None else left)
        found = await run_in_threadpool(_read, database, job_id, seq, wanted)
        if found is None:
            # Deleted under the reader: without its last line the stream is no whole one.
            return
        ended, lines, seq = found
        left = None if left is None else left - len(lines)
        silent = 0 if lines else silent + 1
        if lines:
            yield b"".join(lines)
        elif silent % _SILENCE == 0:
            yield b"\n"
        if len(lines) < wanted:
            if ended or not follow:
                break
            await asyncio.sleep(_POLL)
    yield orjson.dumps({"_end": True, "cursor": str(seq)}) + b"\n"


def _read(database: Database, job_id: UUID, seq: int, limit: int) -> tuple[bool, list[bytes], int] | None:
    """Whether the job had ended, then the next results (so that none can come between), and the last one's seq.

    None for a job that is deleted: asked last, since its results are taken away from then on.
    """
    with database.transaction() as session:
        ended = bool(jobs.ended(session, [job_id]))
        found = list(outcomes.after(session, job_id, seq, limit))
        if not jobs.is_there(session, job_id):
            return None
    return ended, [line for _, line in found], found[-1][0] if found else seq
