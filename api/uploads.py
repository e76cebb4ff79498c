"""Uploads: callers put objects into our bucket themselves, by a form or in parts that we have signed."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Body, Query, Response
from sqlalchemy import RowMapping

from api import tokens
from api.deps import GivenCaller, GivenServices, Services
from api.idempotency import NewId
from api.problems import documented
from api.upload_answers import NewUpload, Part, PartList, Upload, UploadList, UploadRequest
from ocrfleet.errors import (
    FileTooLarge,
    FleetError,
    InputNotFound,
    NotFound,
    StorageUnavailable,
    UploadIncomplete,
)
from ocrfleet.presign import Presigner
from ocrfleet.states import UploadState
from ocrfleet.store import audit, uploads

log = structlog.get_logger()
router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
MAX_PARTS = 1000
_EXAMPLES: dict[str, Any] = {
    "upload": {
        "summary": "A scan of 4 MB",
        "value": {"filename": "a.pdf", "bytes": 4194304, "content_type": "application/pdf"},
    }
}
_PLAIN = re.compile(r"[^\w .,=@+()-]")


@router.post(
    "",
    status_code=201,
    summary="Begin an upload",
    responses=documented("validation_failed", "file_too_large", "storage_unavailable"),
)
def create_upload(
    body: Annotated[UploadRequest, Body(openapi_examples=_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    new_id: NewId,
) -> NewUpload:
    """Send the bytes to where the answer says, then POST …/complete. One that is left open is removed after a day."""
    config, presigner = services.settings, signer(services)
    limit = config.max_object_bytes
    if body.bytes > limit:
        detail = f"The object may have {limit} bytes, it has {body.bytes}."
        fault = {"pointer": "/bytes", "detail": detail}
        raise FileTooLarge(detail, limit=limit, actual=body.bytes, errors=[fault])
    key = f"uploads/{caller.tenant_id}/{new_id}/{_name(body.filename)}"
    in_parts = body.bytes > config.upload_part_bytes
    multipart = presigner.begin(config.bucket, key, body.content_type) if in_parts else None
    row = {
        "id": new_id,
        "tenant_id": caller.tenant_id,
        "bucket": config.bucket,
        "key": key,
        "filename": body.filename,
        "bytes": body.bytes,
        "multipart_id": multipart,
    }
    with services.database.transaction() as session:
        # A request that is sent again finds what its first time has made.
        fresh = uploads.create(session, row)
        if fresh:
            audit.record(
                session, caller.tenant_id, caller.key_id, "create", _subject(new_id), filename=body.filename
            )
        made = _found(uploads.get(session, caller.tenant_id, new_id, config.upload_expiry), new_id)
    if multipart and not fresh:
        presigner.abort(config.bucket, key, multipart)
    if made["multipart_id"]:
        return NewUpload(**_view(made), method="parts", parts=_parts(services, made, {}))
    form = presigner.form(
        config.bucket, key, most=body.bytes, content_type=body.content_type, seconds=config.upload_expiry
    )
    return NewUpload(**_view(made), method="post", url=form.url, fields=form.fields)


@router.get("", summary="List uploads, newest first", responses=documented("validation_failed"))
def list_uploads(
    caller: GivenCaller,
    services: GivenServices,
    state: UploadState | None = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> UploadList:
    """Your tenant's."""
    before = tokens.read(page_token, datetime.fromisoformat, UUID) if page_token else None
    with services.database.transaction() as session:
        rows = uploads.listing(
            session,
            caller.tenant_id,
            services.settings.upload_expiry,
            limit=page_size + 1,
            before=before,  # type: ignore[arg-type]
            state=state,
        )
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    return UploadList(data=[Upload(**_view(row)) for row in shown], next_page_token=token)


@router.get("/{upload_id}", summary="See an upload", responses=documented("not_found", "validation_failed"))
def get_upload(upload_id: UUID, caller: GivenCaller, services: GivenServices) -> Upload:
    """Whether it is complete."""
    return Upload(**_view(_get(services, caller.tenant_id, upload_id)))


@router.get(
    "/{upload_id}/parts",
    summary="See which parts are there",
    responses=documented("not_found", "validation_failed", "upload_incomplete", "storage_unavailable"),
)
def list_parts(upload_id: UUID, caller: GivenCaller, services: GivenServices) -> PartList:
    """To go on after an interruption: with a fresh URL for each. Only of an open upload that goes in parts."""
    row = _get(services, caller.tenant_id, upload_id)
    if row["state"] != UploadState.OPEN or not row["multipart_id"]:
        raise NotFound(
            f"The upload {upload_id} is {row['state']}, or goes in one piece: it has no parts to send."
        )
    there = signer(services).parts(row["bucket"], row["key"], row["multipart_id"])
    return PartList(data=_parts(services, row, there))


@router.post(
    "/{upload_id}/complete",
    summary="Say that all bytes are there",
    responses=documented("not_found", "validation_failed", "upload_incomplete", "storage_unavailable"),
)
def complete_upload(upload_id: UUID, caller: GivenCaller, services: GivenServices) -> Upload:
    """409 with `limit` (declared) and `actual` bytes unless they are; sending them again is then possible."""
    row = _get(services, caller.tenant_id, upload_id)
    if row["state"] == UploadState.COMPLETE:
        return Upload(**_view(row))
    _check_open(row)
    etag = _etag(services, row)
    with services.database.transaction() as session:
        if uploads.complete(session, caller.tenant_id, upload_id, etag):
            audit.record(session, caller.tenant_id, caller.key_id, "complete", _subject(upload_id), etag=etag)
        found = uploads.get(session, caller.tenant_id, upload_id, services.settings.upload_expiry)
    row = _found(found, upload_id)
    if row["state"] != UploadState.COMPLETE:
        _check_open(row)
    return Upload(**_view(row))


@router.delete(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Remove an upload",
    responses=documented("not_found", "validation_failed"),
)
def delete_upload(upload_id: UUID, caller: GivenCaller, services: GivenServices) -> Response:
    """Aborts an open one. The bytes of a complete one go too: jobs that have not read them find no object."""
    with services.database.transaction() as session:
        row = _found(
            uploads.get(session, caller.tenant_id, upload_id, services.settings.upload_expiry), upload_id
        )
        if uploads.give_up(session, caller.tenant_id, upload_id):
            audit.record(session, caller.tenant_id, caller.key_id, "delete", _subject(upload_id))
    try:
        if row["multipart_id"]:
            signer(services).abort(row["bucket"], row["key"], row["multipart_id"])
        services.blobs.remove(row["bucket"], row["key"])
    except FleetError as exc:
        # The producer removes what is left.
        log.warning("upload_not_cleared", upload_id=str(upload_id), code=exc.code, error=exc.detail)
    else:
        with services.database.transaction() as session:
            uploads.remove(session, caller.tenant_id, upload_id)
    return Response(status_code=204)


def signer(services: Services) -> Presigner:
    """Who signs; StorageUnavailable where the store is none that takes signatures."""
    if services.presigner is None:
        raise StorageUnavailable("The store of this fleet takes no uploads.")
    return services.presigner


def _etag(services: Services, row: RowMapping) -> str:
    """The ETag of the object that is there, put together if need be; UploadIncomplete unless it is as declared."""
    bucket, key, multipart, declared = row["bucket"], row["key"], row["multipart_id"], int(row["bytes"])
    if multipart:
        presigner = signer(services)
        try:
            actual = sum(presigner.parts(bucket, key, multipart).values())
            if actual == declared:
                presigner.finish(bucket, key, multipart)
        except InputNotFound:
            # Somebody has put the parts together already, and the record was not told.
            actual = declared
        if actual != declared:
            raise _incomplete(declared, actual, "its parts have")
    try:
        info = services.blobs.stat(bucket, key)
    except InputNotFound as exc:
        raise _incomplete(declared, 0, "there is no object; it has") from exc
    if info.size != declared:
        raise _incomplete(declared, info.size, "the object has")
    return info.etag


def _incomplete(declared: int, actual: int, what: str) -> UploadIncomplete:
    return UploadIncomplete(
        f"{declared} bytes were declared, {what} {actual}.", limit=declared, actual=actual
    )


def _check_open(row: RowMapping) -> None:
    if row["state"] != UploadState.OPEN:
        raise UploadIncomplete(f"The upload {row['id']} is {row['state']}: begin another one.")


def _parts(services: Services, row: RowMapping, there: dict[int, int]) -> list[Part]:
    presigner, seconds = signer(services), services.settings.upload_expiry
    return [
        Part(
            number=number,
            bytes=size,
            url=presigner.part(row["bucket"], row["key"], row["multipart_id"], number, seconds=seconds),
            uploaded=there.get(number) == size,
        )
        for number, size in enumerate(_sizes(int(row["bytes"]), services.settings.upload_part_bytes), 1)
    ]


def _sizes(whole: int, part: int) -> Sequence[int]:
    """Of the parts: alike but for the last, and no more than an answer should list."""
    part = max(part, -(-whole // MAX_PARTS))
    return [min(part, whole - begin) for begin in range(0, whole, part)]


def _get(services: Services, tenant_id: UUID, upload_id: UUID) -> RowMapping:
    with services.database.transaction() as session:
        row = uploads.get(session, tenant_id, upload_id, services.settings.upload_expiry)
    return _found(row, upload_id)


def _found(row: RowMapping | None, upload_id: UUID) -> RowMapping:
    if row is None:
        raise NotFound(f"There is no upload {upload_id}.")
    return row


def _view(row: RowMapping) -> dict[str, Any]:
    open_until = row["expires_at"] if row["state"] == UploadState.OPEN else None
    return {**row, "expires_at": open_until}


def _name(filename: str) -> str:
    """The filename as the last part of a key: without what leads elsewhere or a store may not keep."""
    name = _PLAIN.sub("_", filename)
    return f"_{name[1:]}" if name.startswith(".") else name


def _subject(upload_id: UUID) -> str:
    return f"upload:{upload_id}"
