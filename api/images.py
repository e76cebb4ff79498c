"""Reading the body of POST /v1/ocr: one image, as a form or as JSON, within its limit."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.problems import invalid, refused
from api.schemas import ImageRef, OcrRequest, PageParameters
from ocrfleet.errors import EmptyFile, FileTooLarge, UnsupportedMediaType
from ocrfleet.settings import Settings

JSON_FIELDS = frozenset({"fields", "output_schema", "options"})
FORM_FIELDS = JSON_FIELDS | {"file", "task", "prompt"}
FORM_OVERHEAD = 1024 * 1024
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Image:
    """What is to be read, and how: bytes, or an object of the store."""

    content: bytes | ImageRef
    parameters: PageParameters


def body_limits(settings: Settings) -> Callable[[str], int]:
    """The most bytes that a body sent to a path may have; of an image, base64 makes four bytes of three."""
    limits = {
        "/v1/ocr": settings.sync_max_bytes * 4 // 3 + FORM_OVERHEAD,
        "/v1/files": settings.max_object_bytes + FORM_OVERHEAD,
    }
    return lambda path: limits.get(path, settings.max_request_bytes)


def check_size(actual: int, limit: int) -> None:
    """Raise EmptyFile or FileTooLarge."""
    if actual == 0:
        raise EmptyFile("The image has no bytes.", actual=0)
    if actual > limit:
        raise FileTooLarge(f"The image may have {limit} bytes, it has {actual}.", limit=limit, actual=actual)


async def read_image(request: Request, max_bytes: int) -> Image:
    """The image that a request brings or names; FleetErrors for what is wrong with it."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_form(request, max_bytes)
    if media_type == "application/json":
        return await run_in_threadpool(_read_json, await request.body(), max_bytes)
    raise UnsupportedMediaType(
        f"Send multipart/form-data or application/json, not {media_type or 'nothing'!r}."
    )


async def _read_form(request: Request, max_bytes: int) -> Image:
    async with request.form(max_files=1, max_fields=len(FORM_FIELDS)) as form:
        unknown = sorted(set(form) - FORM_FIELDS)
        if unknown:
            raise refused(*((f"/{name}", "Extra inputs are not permitted") for name in unknown))
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise refused(("/file", "A file is required"))
        check_size(file.size or 0, max_bytes)
        members: dict[str, Any] = {name: value for name, value in form.items() if name != "file"}
        for name in JSON_FIELDS & members.keys():
            members[name] = _load(members[name], f"/{name}")
        return Image(await file.read(), _validate(PageParameters, members))


def _read_json(body: bytes, max_bytes: int) -> Image:
    asked = _validate(OcrRequest, _load(body, ""))
    if isinstance(asked.image, ImageRef):
        return Image(asked.image, asked)
    data = _decode(asked.image, max_bytes)
    check_size(len(data), max_bytes)
    return Image(data, asked)


def _load(text: str | bytes, pointer: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise refused((pointer, f"is no JSON: {exc}")) from exc


def _validate(model: type[M], members: object) -> M:
    try:
        return model.model_validate(members)
    except ValidationError as exc:
        faults: list[Mapping[str, Any]] = [
            {**fault, "loc": ("body", *fault["loc"])} for fault in exc.errors(include_url=False)
        ]
        raise invalid(faults, members) from exc


def _decode(text: str, max_bytes: int) -> bytes:
    if text.startswith("data:"):
        header, _, text = text.partition(",")
        if not header.endswith(";base64"):
            raise refused(("/image", "A data URI must be of the form data:<type>;base64,<data>"))
    try:
        packed = text.encode("ascii").translate(None, b"\r\n")
        check_size(len(packed) * 3 // 4 - packed[-2:].count(b"="), max_bytes)
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise refused(("/image", "is neither base64 nor a data URI")) from exc
