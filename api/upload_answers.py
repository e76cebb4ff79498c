"""What callers say of an upload, and what they are told of it."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from api.answers import Time
from api.examples import example
from api.schemas import Strict, Text
from ocrfleet.states import UploadState

UPLOAD: dict[str, Any] = {
    "id": "6f1c2a0e-8d55-4c0b-9a53-2f3c1d9b7e10",
    "state": "open",
    "filename": "a.pdf",
    "bucket": "ocr",
    "key": "uploads/3c…/6f1c2a0e-8d55-4c0b-9a53-2f3c1d9b7e10/a.pdf",
    "bytes": 4194304,
    "etag": None,
    "created_at": "2026-11-20T09:00:00Z",
    "completed_at": None,
    "expires_at": "2026-11-21T09:00:00Z",
}
PART: dict[str, Any] = {
    "number": 1,
    "bytes": 67108864,
    "url": "https://store/ocr/uploads/…?partNumber=1&uploadId=…",
    "uploaded": False,
}
FORM: dict[str, Any] = {"key": UPLOAD["key"], "policy": "eyJl…", "x-amz-signature": "5d41…"}
NEW_UPLOAD: dict[str, Any] = UPLOAD | {
    "method": "post",
    "url": "https://store/ocr",
    "fields": FORM,
    "parts": [],
}


class UploadRequest(Strict):
    """An object to be put."""

    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255)]
    bytes: int = Field(ge=1, lt=2**53, strict=True, description="Of the whole object.")
    content_type: Annotated[str, StringConstraints(max_length=127, pattern=r"^[\w.+-]+/[\w.+-]+$")] | None = (
        None
    )


class Part(BaseModel):
    """A part of an upload: PUT these bytes of the object, in order, to the URL."""

    model_config = example(PART)

    number: int
    bytes: int
    url: str
    uploaded: bool = Field(default=False, description="It is there already.")


class PartList(BaseModel):
    """Every part of an upload, each with a fresh URL."""

    model_config = example({"data": [PART]})

    data: list[Part]


class Upload(BaseModel):
    """An upload; `open` until its bytes are there and POST …/complete has said so."""

    model_config = example(UPLOAD)

    id: UUID
    state: UploadState
    filename: str
    bucket: str
    key: str
    bytes: int
    etag: str | None
    created_at: Time
    completed_at: Time | None
    expires_at: Time | None = Field(description="When an open one is removed.")


class NewUpload(Upload):
    """With where to send the bytes: a form to POST with the bytes as its last field `file`, or parts to PUT."""

    model_config = example(NEW_UPLOAD)

    method: Literal["post", "parts"]
    url: str | None = None
    fields: dict[str, str] = Field(default_factory=dict[str, str])
    parts: list[Part] = Field(default_factory=list[Part])


class UploadList(BaseModel):
    """Uploads, newest first."""

    model_config = example({"data": [UPLOAD], "next_page_token": None})

    data: list[Upload]
    next_page_token: str | None
