"""The object store seam: one protocol, an S3 store, and a store without objects for measurements."""

import hashlib
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from ocrfleet.errors import InputNotFound, ValidationFailed
from ocrfleet.s3 import CHUNK, BlobInfo, Fetched, S3Blobs, Stream, check
from ocrfleet.settings import Settings


class Blobs(Protocol):
    """An object store, safe for use by several threads; every method raises FleetErrors only."""

    def stat(self, bucket: str, key: str) -> BlobInfo: ...

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        """One GET; an object over `max_bytes` is refused before its body is read."""
        ...

    def stream(
        self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None
    ) -> AbstractContextManager[Stream]:
        """The bytes from `offset` on; an offset at the end yields no chunk."""
        ...

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        """Objects by key, listed as they are consumed; placeholders of folders are left out."""
        ...

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo: ...

    def remove(self, bucket: str, key: str) -> None: ...

    def ensure_bucket(self, bucket: str) -> None: ...

    def ping(self) -> None:
        """Raise unless the store answers and has our own bucket."""
        ...


class NullBlobs:
    """No objects, for measurements: `*.jsonl` is a manifest of `objects` lines, anything else a tiny PNG.

    `A-B.jsonl` is the manifest of the objects from number A to before B. With `numbered` each object is a picture of
    its own key (`picture`), and with `missing` every so many-th of them is not there.
    """

    line = b'{"key":"%012d.png"}\n'
    width = len(line % 0)
    etag = "null"
    image = bytes.fromhex(
        "89504e470d0a1a0a0000000d494844520000002000000020080000000056112528000000164944415478da63"
        "f84f00308c2a185530aa60a42a00003f68fc2ea944d0c80000000049454e44ae426082"
    )

    def __init__(self, objects: int, *, numbered: bool = False, missing: int = 0) -> None:
        self.objects = objects
        self._numbered = numbered
        self._missing = missing

    def stat(self, bucket: str, key: str) -> BlobInfo:
        if key.endswith(".jsonl"):
            return BlobInfo(bucket, key, self.etag, None, len(self._lines(key)) * self.width)
        number = key.removesuffix(".png")
        if self._missing and number.isdecimal() and int(number) % self._missing == self._missing - 1:
            raise InputNotFound(f"there is no {key}")
        return BlobInfo(bucket, key, self.etag, None, len(self._image(key)))

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        del version_id
        info = self.stat(bucket, key)
        check(info, etag, max_bytes)
        data = b"".join(self._bytes(key, 0))
        return Fetched(data, info, hashlib.sha256(data).hexdigest())

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        info = self.stat(bucket, key)
        check(info, etag)
        yield Stream(info, self._bytes(key, offset))

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        """The objects of the manifest, put under the prefix."""
        first = int(start_after[len(prefix) : -len(".png")]) + 1 if start_after else 0
        for number in range(first, self.objects):
            yield self.stat(bucket, f"{prefix}{number:012}.png")

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        """Keep nothing."""
        del data, content_type
        return self.stat(bucket, key)

    def remove(self, bucket: str, key: str) -> None:
        del bucket, key

    def ensure_bucket(self, bucket: str) -> None:
        del bucket

    def ping(self) -> None:
        pass

    def _image(self, key: str) -> bytes:
        return picture(key) if self._numbered else self.image

    def _lines(self, key: str) -> range:
        """The numbers of a manifest's objects."""
        first, dash, end = key.rpartition("/")[2].removesuffix(".jsonl").partition("-")
        named = dash and first.isdecimal() and end.isdecimal()
        return range(int(first), int(end)) if named else range(self.objects)

    def _bytes(self, key: str, offset: int) -> Iterator[bytes]:
        if not key.endswith(".jsonl"):
            yield self._image(key)[offset:]
            return
        lines = self._lines(key)
        per_chunk = CHUNK // self.width
        first, skip = divmod(offset, self.width)
        for start in range(first, len(lines), per_chunk):
            chunk = b"".join([self.line % number for number in lines[start : start + per_chunk]])
            yield chunk[skip:] if start == first else chunk


def picture(key: str) -> bytes:
    """A PNG of 32 x 32 gray pixels, each row of which is the key's SHA-256."""
    row = b"\0" + hashlib.sha256(key.encode()).digest()
    header = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * 32)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def connect(settings: Settings) -> Blobs:
    """The store that `settings.store_url` names; nothing is sent yet."""
    url = urlsplit(settings.store_url)
    if url.scheme == "null":
        given = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
        return NullBlobs(
            given.get("objects", 0), numbered=bool(given.get("numbered")), missing=given.get("missing", 0)
        )
    if url.scheme in ("http", "https") and url.netloc and not url.path.strip("/"):
        if not settings.store_access_key or not settings.store_secret_key.get_secret_value():
            raise ValidationFailed(
                "OCRFLEET_STORE_ACCESS_KEY and OCRFLEET_STORE_SECRET_KEY must not be empty."
            )
        return S3Blobs(settings)
    raise ValidationFailed(
        f"OCRFLEET_STORE_URL must be http(s)://host[:port] or null://?objects=N, not {settings.store_url!r}."
    )
