"""Calls about uploads: local files into the fleet's bucket, several at a time."""

import mimetypes
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike, fsencode
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypedDict, TypeVar

from ocrfleet.client.asks import Calls, given, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.errors import ApiError, StoreError
from ocrfleet.client.puts import TIMEOUT, put
from ocrfleet.client.steps import Do, Send, Steps, Stream, Together

T = TypeVar("T")
Local: TypeAlias = str | PathLike[str]
TOGETHER = 8
LONGEST_NAME = 255
_GONE = 404


class Upload(TypedDict):
    """An object that a caller has put into the fleet's bucket, or is about to; `state` is open, complete or expired."""

    id: str
    state: str
    filename: str
    bucket: str
    key: str
    bytes: int
    etag: str | None
    created_at: str
    completed_at: str | None
    expires_at: str | None


class UploadPart(TypedDict):
    """PUT so many bytes of the object, in order, to the address."""

    number: int
    bytes: int
    url: str
    uploaded: bool


class NewUpload(Upload):
    """With where to send the bytes: by `method` a form to POST with them as its last field `file`, or parts to PUT."""

    method: Literal["post", "parts"]
    url: str | None
    fields: dict[str, str]
    parts: list[UploadPart]


class LocalFile(NamedTuple):
    """A file to upload; `name` is its path below the folder that was named, and becomes the custom_id."""

    name: str
    path: Path


class UploadCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @call
    def create_upload(self, filename: str, size: int, *, content_type: str | None = None) -> Steps[NewUpload]:
        """Begin an upload of `size` bytes; the answer says where to send them. ApiError `file_too_large`."""
        body = given(filename=filename, bytes=size, content_type=content_type)
        return self.send("POST", "/v1/uploads", body)

    @call
    def complete_upload(self, upload_id: str) -> Steps[Upload]:
        """Say that all bytes are there; ApiError `upload_incomplete` unless they are."""
        return self.send("POST", f"{_path(upload_id)}/complete")

    @call
    def upload_status(self, upload_id: str) -> Steps[Upload]:
        """Whether an upload is complete."""
        return self.get(_path(upload_id))

    @call
    def upload_parts(self, upload_id: str) -> Steps[list[UploadPart]]:
        """The parts of an open upload, each with a fresh address and whether it is there."""
        return (yield from self.get(f"{_path(upload_id)}/parts"))["data"]

    @stream
    def uploads(self, *, state: str | None = None, page_size: int = 100) -> Stream[Upload]:
        """Every upload, newest first, fetched page by page as the caller goes on."""
        return self.listed("/v1/uploads", given(state=state, page_size=page_size))

    @call
    def delete_upload(self, upload_id: str) -> Steps[None]:
        """Remove an upload and its bytes."""
        return self.send("DELETE", _path(upload_id))

    @call
    def upload_bytes(self, data: bytes, filename: str) -> Steps[Upload]:
        """Put bytes that are in memory. StoreError if the store does not take them; so in the other calls."""
        found = yield from self._begin(filename, len(data))
        return (yield from self._put(found, lambda begin, size: data[begin : begin + size]))

    @call
    def upload_file(
        self,
        path: Local,
        *,
        name: str | None = None,
        resume: str | None = None,
        begun: Callable[[str], object] | None = None,
    ) -> Steps[Upload]:
        """Put one file, a large one in parts, of which one is in memory at a time. OSError if it cannot be read.

        `begun` is told the upload's id before anything is sent. Given as `resume` later, only the parts that are
        missing are sent, and nothing if it is complete; one that is gone or of another size is begun anew.
        """
        path = Path(path)
        try:
            size = (yield Do(path.stat)).st_size
            earlier = (yield from self._earlier(resume, size)) if resume else None
            if earlier and earlier["state"] == "complete":
                return earlier
            upload = (yield from self._missing(earlier)) if earlier else None
            if upload is None:
                upload = yield from self._begin(name or _text(path.name), size)
                if begun:
                    begun(upload["id"])
            return (yield from self._put(upload, partial(_read, path)))
        except ApiError as exc:
            exc.add_note(f"while uploading {path}")
            raise
        except StoreError as exc:
            raise StoreError(f"{path}: {exc}") from exc

    @call
    def upload(self, *places: Local) -> Steps[list[Upload]]:
        """Put files, and folders with all that is in them but hidden files; several at a time.

        FileNotFoundError for what is not there, OSError for what cannot be read, before anything is sent.
        """
        files: list[LocalFile] = yield Do(lambda: local_files(places))
        return (
            yield Together(
                [UploadCalls.upload_file.steps(self, file.path, name=file.name) for file in files], TOGETHER
            )
        )

    def _begin(self, name: str, size: int) -> Steps[NewUpload]:
        name = name[-LONGEST_NAME:]
        kind = mimetypes.guess_type(name)[0]
        return UploadCalls.create_upload.steps(self, name, size, content_type=kind)

    def _earlier(self, upload_id: str, size: int) -> Steps[Upload | None]:
        """An upload that was begun before; None if it cannot be gone on with."""
        found = yield from _if_there(UploadCalls.upload_status.steps(self, upload_id))
        fits = found and found["bytes"] == size and found["state"] != "expired"
        return found if fits else None

    def _missing(self, upload: Upload) -> Steps[NewUpload | None]:
        """The upload with its parts; None for one that goes in one piece."""
        parts = yield from _if_there(UploadCalls.upload_parts.steps(self, upload["id"]))
        return (
            None if parts is None else NewUpload(**upload, method="parts", url=None, fields={}, parts=parts)
        )

    def _put(self, upload: NewUpload, read: Callable[[int, int], bytes]) -> Steps[Upload]:
        """`read` is given where to begin and how many bytes are wanted."""
        if upload["method"] == "post":
            name, form, url = upload["filename"], upload["fields"], upload["url"] or ""
            files = {"file": (name, (yield Do(partial(read, 0, upload["bytes"]))))}
            ask = Send(method="POST", path=url, form=form, files=files, timeout=TIMEOUT)
            yield from put(ask, self.attempts)
        sent = 0
        for one in upload["parts"]:
            if not one["uploaded"]:
                data: bytes = yield Do(partial(read, sent, one["bytes"]))
                ask = Send(method="PUT", path=one["url"], content=data, timeout=TIMEOUT)
                yield from put(ask, self.attempts)
            sent += one["bytes"]
        return (yield from UploadCalls.complete_upload.steps(self, upload["id"]))


def _if_there(steps: Steps[T]) -> Steps[T | None]:
    try:
        return (yield from steps)
    except ApiError as exc:
        if exc.status != _GONE:
            raise
        return None


def local_files(places: Sequence[Local]) -> list[LocalFile]:
    """The files that are meant, in order; those of a folder are sorted. FileNotFoundError, or ValueError for none."""
    found = [file for place in places for file in _files(Path(place))]
    if not found:
        raise ValueError(f"no files in {', '.join(map(str, places))} (hidden files are not read)")
    return found


def _files(place: Path) -> Iterator[LocalFile]:
    if not place.is_dir():
        place.stat()
        yield LocalFile(_text(place.name), place)
        return
    for path in sorted(place.rglob("*")):
        below = path.relative_to(place)
        if path.is_file() and not any(name.startswith(".") for name in below.parts):
            yield LocalFile(_text(str(below)), path)


def _text(name: str) -> str:
    """A name as it can stand in JSON, whatever bytes the file system holds."""
    return fsencode(name).decode("utf-8", "backslashreplace")


def _read(path: Path, begin: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(size)


def _path(upload_id: str) -> str:
    return f"/v1/uploads/{part(upload_id)}"
