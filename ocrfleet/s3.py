"""Objects in an S3 store by the MinIO SDK; its errors and urllib3's are translated here."""

import hashlib
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from ocrfleet.errors import (
    FileTooLarge,
    FleetError,
    InputAccessDenied,
    InputChanged,
    InputNotFound,
    StorageUnavailable,
)
from ocrfleet.settings import Settings

CHUNK = 256 * 1024
PART = 16 * 1024 * 1024
"""Objects above this size are put in parts, each held in memory."""
_OF_THE_KEY = frozenset(
    (
        "DirectoryObjectContainsData",
        "ExistingObjectIsDirectory",
        "ExistingObjectIsFile",
        "InvalidURI",
        "KeyTooLongError",
        "ObjectParentIsFile",
        "XMinioInvalidObjectName",
        "XMinioObjectExistsAsDirectory",
        "XMinioParentIsObject",
    )
)
"""What stores (AWS, MinIO, SeaweedFS) say of a key that they cannot hold, or not beside what is there."""


class BadName(InputNotFound):
    """The store can hold no such object, whoever asks; another of the bucket it may."""

    code: ClassVar[str] = InputNotFound.code


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store tells of an object without its bytes."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole object."""

    data: bytes
    info: BlobInfo
    sha256: str
    """Of `data`, in hex."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An object being read; `info.size` is the whole object's, wherever the chunks begin."""

    info: BlobInfo
    chunks: Iterator[bytes]


def check(info: BlobInfo, etag: str | None, max_bytes: int | None = None) -> None:
    """Raise unless the object is the one submitted, and within the limit."""
    name = f"{info.bucket}/{info.key}"
    # Not every store honours If-Match.
    if etag and info.etag != etag:
        raise InputChanged(f"{name}: submitted with ETag {etag}, now {info.etag}.")
    if max_bytes is not None and info.size > max_bytes:
        raise FileTooLarge(
            f"{name}: {info.size} bytes, the limit is {max_bytes}.", limit=max_bytes, actual=info.size
        )


def client(settings: Settings, url: str = "") -> Minio:
    """The SDK's client of the store, under another URL if one is given; nothing is sent yet."""
    parts = urlsplit(url or settings.store_url)
    return Minio(
        parts.netloc,
        access_key=settings.store_access_key,
        secret_key=settings.store_secret_key.get_secret_value(),
        secure=parts.scheme == "https",
        region=settings.store_region,
        http_client=PoolManager(
            maxsize=32,
            timeout=Timeout(connect=min(3.0, settings.store_timeout), read=settings.store_timeout),
            # A page whose fetch fails comes back at no cost, so that long waits are not spent here.
            retries=Retry(
                total=2,
                read=1,
                backoff_factor=0.1,
                status_forcelist=(500, 502, 503, 504),
                respect_retry_after_header=False,
                raise_on_status=False,
            ),
        ),
    )


class S3Blobs:
    """Any S3 store."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.bucket
        self._client = client(settings)

    def stat(self, bucket: str, key: str) -> BlobInfo:
        with translated(bucket, key):
            found = self._client.stat_object(bucket, key)
        return BlobInfo(bucket, key, found.etag or "", found.version_id, found.size or 0)

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        with translated(bucket, key):
            response = self._get(bucket, key, etag=etag, version_id=version_id)
            try:
                info = _info(bucket, key, response)
                check(info, etag, max_bytes)
                chunks, digest = list[bytes](), hashlib.sha256()
                for chunk in response.stream(CHUNK, decode_content=False):
                    chunks.append(chunk)
                    # Here, while it is in the processor's cache, and the next one is on its way.
                    digest.update(chunk)
            except BaseException:
                # Unread bytes would be taken for the connection's next answer.
                response.close()
                raise
            response.release_conn()
        return Fetched(b"".join(chunks), info, digest.hexdigest())

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        with translated(bucket, key):
            try:
                response = self._get(bucket, key, offset=offset, etag=etag)
            except S3Error as exc:
                if exc.response.status != 416:
                    raise
                response = None
        if response is None:
            info = self.stat(bucket, key)
            check(info, etag)
            yield Stream(info, iter(()))
            return
        try:
            with translated(bucket, key):
                info = _info(bucket, key, response)
            check(info, etag)
            yield Stream(info, _chunks(info, response))
        finally:
            response.close()
            response.release_conn()

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        with translated(bucket, prefix):
            for found in self._client.list_objects(
                bucket, prefix=prefix, recursive=True, start_after=start_after or None
            ):
                key, size = found.object_name or "", found.size or 0
                if not key.endswith("/"):
                    yield BlobInfo(bucket, key, (found.etag or "").strip('"'), found.version_id, size)

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        with (
            data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file,
            translated(bucket, key),
        ):
            written = self._client.put_object(
                bucket, key, file, size, content_type=content_type, part_size=PART if size > PART else 0
            )
        return BlobInfo(bucket, key, (written.etag or "").strip('"'), written.version_id, size)

    def remove(self, bucket: str, key: str) -> None:
        with translated(bucket, key):
            self._client.remove_object(bucket, key)

    def ensure_bucket(self, bucket: str) -> None:
        with translated(bucket, ""):
            if self._client.bucket_exists(bucket):
                return
            try:
                self._client.make_bucket(bucket)
            except S3Error as exc:
                if exc.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def ping(self) -> None:
        with translated(self._bucket, ""):
            found = self._client.bucket_exists(self._bucket)
        if not found:
            raise StorageUnavailable(f"The store has no bucket {self._bucket}.")

    def _get(
        self,
        bucket: str,
        key: str,
        *,
        offset: int = 0,
        etag: str | None = None,
        version_id: str | None = None,
    ) -> BaseHTTPResponse:
        headers: dict[str, str | list[str] | tuple[str]] = {"If-Match": f'"{etag}"'} if etag else {}
        return self._client.get_object(
            bucket, key, offset=offset, version_id=version_id, request_headers=headers
        )


def _info(bucket: str, key: str, response: BaseHTTPResponse) -> BlobInfo:
    headers = response.headers
    # A range answers with `bytes 5-9/10`; only the last number is the object's size.
    size = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    if not size.isdigit():
        raise StorageUnavailable(f"{bucket}/{key}: the store's answer does not tell the object's size.")
    etag = headers.get("etag", "").strip('"')
    return BlobInfo(bucket, key, etag, headers.get("x-amz-version-id"), int(size))


def _chunks(info: BlobInfo, response: BaseHTTPResponse) -> Iterator[bytes]:
    with translated(info.bucket, info.key):
        yield from response.stream(CHUNK, decode_content=False)


@contextmanager
def translated(bucket: str, key: str) -> Generator[None]:
    """Make FleetErrors of what the SDK and urllib3 raise."""
    name = f"{bucket}/{key}"
    try:
        yield
    except (S3Error, ServerError, InvalidResponseError) as exc:
        raise _from_status(name, exc) from exc
    except (MinioException, HTTPError, ParseError) as exc:
        raise StorageUnavailable(f"{name}: {exc}") from exc
    except ValueError as exc:
        # The SDK refuses names that no store can hold.
        raise BadName(f"{name}: {exc}") from exc


def _from_status(name: str, exc: S3Error | ServerError | InvalidResponseError) -> FleetError:
    match exc:
        case S3Error():
            status, said = exc.response.status, f"{exc.code}: {exc.message}"
        case ServerError():
            status, said = exc.status_code, str(exc)
        case _:
            # The SDK tells the status nowhere else.
            status, said = exc._code, "no S3 answer"  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    detail = f"{name}: the store answers {status}, {said}"
    if status >= 500 or status in (408, 429):
        return StorageUnavailable(detail)
    if isinstance(exc, S3Error) and exc.code in _OF_THE_KEY:
        return BadName(detail)
    if status == 412:
        return InputChanged(detail)
    # 405 is a version that is a delete marker.
    if status in (404, 405) or "NoSuchBucket" in said:
        return InputNotFound(detail)
    return InputAccessDenied(detail)
