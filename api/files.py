"""Files as OpenAI's API has them: what a batch reads, and what it has written."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api import facade
from api.deps import GivenCaller, GivenServices, Services
from api.examples import example
from api.facade import FacadeRoute
from api.idempotency import NewId
from api.problems import refused
from ocrfleet.errors import EmptyFile, FileTooLarge, FleetError, NotFound, UnsupportedMediaType
from ocrfleet.store import files
from ocrfleet.store.files import NewFile
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1/files", tags=["files and batches"], route_class=FacadeRoute)

FILE: dict[str, Any] = {
    "id": "file-0b6e8d0e5d0f4a519f0a3b0f3c6a7d11",
    "object": "file",
    "bytes": 120000,
    "created_at": 1795165200,
    "filename": "requests.jsonl",
    "purpose": "batch",
    "status": "processed",
}
FileId = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
After = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="`last_id` of the answer before.")
]
_MAX_NAME = 256
_JSONL = "application/jsonl"
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string", "enum": ["batch"]},
                },
            }
        }
    },
}


class File(BaseModel):
    """A file."""

    model_config = example(FILE)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(facade.Page):
    """Files."""

    model_config = example(
        {
            "object": "list",
            "data": [FILE],
            "first_id": FILE["id"],
            "last_id": FILE["id"],
            "has_more": False,
        }
    )

    data: list[File]


class FileDeleted(BaseModel):
    """What is left of a file."""

    model_config = example({"id": FILE["id"], "object": "file", "deleted": True})

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post(
    "",
    summary="Send a file",
    openapi_extra={"requestBody": _FORM},
    responses=facade.documented(
        "validation_failed", "file_too_large", "empty_file", "unsupported_media_type", "storage_unavailable"
    ),
)
async def create_file(request: Request, caller: GivenCaller, services: GivenServices, new_id: NewId) -> File:
    """For a batch: JSON lines, each a request. It goes to the fleet's bucket; nothing is read yet."""
    if not request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("Send multipart/form-data.")
    async with request.form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise refused(("/file", "A file is required"))
        if purpose != "batch":
            raise refused(("/purpose", "Input should be 'batch'"))
        new = _new_file(services, caller, f"file-{new_id.hex}", file)
        return await run_in_threadpool(_keep, services, caller, new, file.file)


def _new_file(services: Services, caller: Caller, file_id: str, file: UploadFile) -> NewFile:
    size, limit = file.size or 0, services.settings.max_object_bytes
    if size == 0:
        raise EmptyFile("The file has no bytes.", actual=0)
    if size > limit:
        raise FileTooLarge(f"The file may have {limit} bytes, it has {size}.", limit=limit, actual=size)
    name = PurePosixPath((file.filename or "").replace("\\", "/")).name
    name = "".join(letter for letter in name if letter.isprintable()).encode("utf-8", "replace").decode()
    return NewFile(
        id=file_id,
        tenant_id=caller.tenant_id,
        purpose="batch",
        filename=name[:_MAX_NAME] or "file",
        bucket=services.settings.bucket,
        key=f"files/{caller.tenant_id}/{file_id}",
        bytes=size,
    )


def _keep(services: Services, caller: Caller, new: NewFile, content: BinaryIO) -> File:
    """Put the bytes, then write the file down; bytes without a file are overwritten when it is sent again."""
    with tempfile.NamedTemporaryFile() as copy:
        # The store takes a file that has a name.
        shutil.copyfileobj(content, copy)
        copy.flush()
        services.blobs.put(new.bucket, new.key, Path(copy.name), _JSONL)
    with services.database.transaction() as session:
        files.create(session, new, caller.key_id)
        row = files.get(session, caller.tenant_id, new.id)
    return _shown(_found(row, new.id))


@router.get("", summary="List files", responses=facade.documented("validation_failed"))
def list_files(
    caller: GivenCaller,
    services: GivenServices,
    purpose: Annotated[str | None, Query(pattern="^[a-z_]{1,64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> FileList:
    """Newest first, unless `order` says otherwise."""
    with services.database.transaction() as session:
        rows = files.listing(
            session, caller.tenant_id, limit=limit + 1, after=after, purpose=purpose, ascending=order == "asc"
        )
    data = [_shown(row) for row in rows[:limit]]
    ids = [file.id for file in data] or [None]
    return FileList(data=data, first_id=ids[0], last_id=ids[-1], has_more=len(rows) > limit)


@router.get("/{file_id}", summary="See a file", responses=facade.documented("not_found", "validation_failed"))
def get_file(file_id: FileId, caller: GivenCaller, services: GivenServices) -> File:
    """Its name, size and purpose."""
    return _shown(find_file(services, caller, file_id))


@router.get(
    "/{file_id}/content",
    summary="Read a file",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The bytes, as they were sent or written.",
            "content": {_JSONL: {"schema": {}, "example": '{"custom_id":"inv-17"}\n'}},
        },
        **facade.documented("not_found", "validation_failed", "input_access_denied", "storage_unavailable"),
    },
)
def get_file_content(file_id: FileId, caller: GivenCaller, services: GivenServices) -> StreamingResponse:
    """Streamed from the bucket."""
    row = find_file(services, caller, file_id)
    opened = ExitStack()
    stream = opened.enter_context(services.blobs.stream(row["bucket"], row["key"]))

    def chunks() -> Generator[bytes]:
        with opened:
            yield from stream.chunks

    headers = {"Content-Length": str(stream.info.size)}
    return StreamingResponse(chunks(), media_type=_JSONL, headers=headers)


@router.delete(
    "/{file_id}", summary="Delete a file", responses=facade.documented("not_found", "validation_failed")
)
def delete_file(file_id: FileId, caller: GivenCaller, services: GivenServices) -> FileDeleted:
    """Its bytes too. A batch that has read it goes on."""
    with services.database.transaction() as session:
        place = files.delete(session, caller.tenant_id, file_id, caller.key_id)
    if place is None:
        raise _missing(file_id)
    # Nobody sees it any more; bytes that the store cannot take away now are left behind.
    with suppress(FleetError):
        services.blobs.remove(*place)
    return FileDeleted(id=file_id)


def find_file(services: Services, caller: Caller, file_id: str) -> RowMapping:
    """The caller's file; NotFound for one that is another tenant's."""
    with services.database.statement() as session:
        return _found(files.get(session, caller.tenant_id, file_id), file_id)


def _found(row: RowMapping | None, file_id: str) -> RowMapping:
    if row is None:
        raise _missing(file_id)
    return row


def _missing(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id}.")


def _shown(row: RowMapping) -> File:
    members = {name: row[name] for name in ("id", "bytes", "filename", "purpose")}
    return File(**members, created_at=int(row["created_at"].timestamp()))
