"""What object stores tell of their buckets: records of MinIO, AWS (S3, EventBridge, SNS) and SeaweedFS in one shape."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote_plus

import orjson

MAX_KEY = 1024
MAX_RAW = 64 * 1024
"""Bytes that are kept of a record, or of a body that is none."""
_MAX_TEXT = 1024
_MAX_ETAG = 256
_YEARS = (1970, 2999)
"""What is beyond is no time that an object was made at, and not every one can be kept."""
_LATEST = int(datetime(_YEARS[1], 1, 1, tzinfo=UTC).timestamp())
_BUCKETS = "/buckets/"
"""Where SeaweedFS's filer keeps buckets."""


@dataclass(frozen=True, slots=True)
class Told:
    """A version of an object has come into being."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    size: int | None
    sequencer: str
    """What tells two events of the same version apart."""
    raw: bytes
    order: str | None = None
    """The store's own sequencer, by which events of the same key are ordered; few have none."""
    happened_at: datetime | None = None

    @property
    def identity(self) -> bytes:
        named = [self.bucket, self.key, self.version_id, self.sequencer]
        return hashlib.sha256(orjson.dumps(named)).digest()


@dataclass(frozen=True, slots=True)
class Malformed:
    """What is no record that we know, and why."""

    raw: bytes
    fault: str

    @property
    def identity(self) -> bytes:
        return hashlib.sha256(self.raw).digest()


class _Fault(Exception):  # noqa: N818 (it never leaves this module)
    pass


def read(body: bytes) -> list[Told | Malformed]:
    """The records of one request's body. Events that make no object (deletions, reads, tests) are left out."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        return [Malformed(body[:MAX_RAW], f"is not JSON: {exc}")]
    return [found for record in _records(given) if (found := _read(record)) is not None]


def _records(given: object, depth: int = 0) -> Iterator[object]:
    """One by one, out of a list, `Records` and the envelope of SNS, none deeper than stores nest them."""
    members = _members(given)
    message = members.get("Message")
    if isinstance(given, list) and depth == 0:
        for one in cast("list[object]", given):
            yield from _records(one, 1)
    elif isinstance(members.get("Records"), list):
        yield from members["Records"]
    elif members.get("Type") == "Notification" and isinstance(message, str) and depth <= 1:
        try:
            yield from _records(orjson.loads(message), 2)
        except orjson.JSONDecodeError:
            yield given
    else:
        yield given


def _read(given: object) -> Told | Malformed | None:
    raw = _dumped(given)
    try:
        return _parse(_members(given), raw)
    except _Fault as exc:
        return Malformed(raw, str(exc))


def _parse(members: Mapping[str, Any], raw: bytes) -> Told | None:
    """By its members: none of these stores says whose event it is."""
    if "s3" in members and "eventName" in members:
        return _s3(members, raw)
    if "detail" in members and "detail-type" in members:
        return _event_bridge(members, raw)
    if "event_type" in members and "message" in members:
        return _seaweedfs(members, raw)
    if members.get("Event") == "s3:TestEvent":
        return None
    if members.get("Type") == "SubscriptionConfirmation":
        raise _Fault("is SNS asking to confirm the subscription: open its SubscribeURL")
    raise _Fault("is no event of MinIO, AWS or SeaweedFS")


def _s3(members: Mapping[str, Any], raw: bytes) -> Told | None:
    """Records of AWS and MinIO, whose keys are URL-encoded, spaces as plus signs."""
    name = _text(members, "eventName")
    if not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return None
    s3 = _members(members["s3"])
    found = _members(s3.get("object"))
    try:
        key = unquote_plus(_text(found, "key"), errors="strict")
    except UnicodeDecodeError as exc:
        raise _Fault("has a key that is not UTF-8") from exc
    bucket, etag = _text(_members(s3.get("bucket")), "name"), _text(found, "eTag")
    happened = _happened(found.get("sequencer"), members.get("eventTime"), etag)
    return _told(bucket, key, etag, found.get("versionId"), found.get("size"), happened, raw)


def _event_bridge(members: Mapping[str, Any], raw: bytes) -> Told | None:
    """Events of AWS EventBridge, whose keys are as they are."""
    if members["detail-type"] != "Object Created":
        return None
    detail = _members(members["detail"])
    found = _members(detail.get("object"))
    bucket, key = _text(_members(detail.get("bucket")), "name"), _text(found, "key")
    etag = _text(found, "etag")
    happened = _happened(found.get("sequencer"), members.get("time"), etag)
    return _told(bucket, key, etag, found.get("version-id"), found.get("size"), happened, raw)


def _seaweedfs(members: Mapping[str, Any], raw: bytes) -> Told | None:
    """Messages of SeaweedFS's filer webhook, about files and folders; keys are as they are."""
    message = _members(members["message"])
    entry = _members(message.get("new_entry"))
    if not entry or entry.get("is_directory"):
        return None
    parent = message.get("new_parent_path")
    path = f"{parent}/{_text(entry, 'name')}" if parent else _text(members, "key")
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    folders = key.split("/")[:-1]
    # Parts of uploads, versions beside their object, and what is no object of a bucket at all.
    hidden = folders[:1] == [".uploads"] or any(folder.endswith(".versions") for folder in folders)
    if not path.startswith(_BUCKETS) or bucket.startswith(".") or hidden or not key:
        return None
    attributes = _members(entry.get("attributes"))
    etag = _seaweedfs_etag(entry, attributes)
    mtime, mtime_ns = attributes.get("mtime"), attributes.get("mtime_ns", 0)
    happened = _Happened(f"{mtime}.{mtime_ns} {etag}", None, _of_epoch(mtime, mtime_ns))
    return _told(bucket, key, etag, None, attributes.get("file_size", 0), happened, raw)


def _seaweedfs_etag(entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> str:
    """As the store's S3 gateway tells it: kept by an upload through it, or made of the digests of the file."""
    try:
        if kept := _members(entry.get("extended")).get("Seaweed-X-Amz-ETag"):
            return base64.b64decode(kept, validate=True).decode()
        if whole := attributes.get("md5"):
            return base64.b64decode(whole, validate=True).hex()
        chunks = [_members(chunk) for chunk in cast("list[object]", entry.get("chunks") or [])]
        digests = [base64.b64decode(_text(chunk, "e_tag"), validate=True) for chunk in chunks]
    except (binascii.Error, TypeError, ValueError) as exc:
        raise _Fault("has digests that are not base64") from exc
    if len(digests) == 1:
        return digests[0].hex()
    # MD5 is what the store makes it of.
    joined = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{joined}-{len(digests)}" if digests else hashlib.md5(b"", usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class _Happened:
    """When an event happened, in the store's words; `known_by` is never empty."""

    known_by: str
    order: str | None
    at: datetime | None


def _happened(sequencer: object, time: object, etag: str) -> _Happened:
    try:
        at = datetime.fromisoformat(str(time))
    except ValueError:
        at = None
    at = at and (at if at.tzinfo else at.replace(tzinfo=UTC))
    if at and not _YEARS[0] <= at.year <= _YEARS[1]:
        at = None
    order = str(sequencer) if sequencer else None
    return _Happened(order or f"{time} {etag}", order, at)


def _of_epoch(seconds: object, nanoseconds: object) -> datetime | None:
    if not isinstance(seconds, int) or not 0 <= seconds < _LATEST:
        return None
    fraction = nanoseconds if isinstance(nanoseconds, int) and 0 <= nanoseconds < 10**9 else 0
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction // 1000)


def _told(
    bucket: str, key: str, etag: str, version: object, size: object, happened: _Happened, raw: bytes
) -> Told | None:
    """Checked against what the record can hold; None for the placeholder of a folder."""
    if key.endswith("/"):
        return None
    if len(key.encode()) > MAX_KEY:
        raise _Fault(f"has a key of {len(key.encode())} bytes; the limit is {MAX_KEY}")
    version_id = None if version in (None, "", "null") else version
    if version_id is not None and not isinstance(version_id, str):
        raise _Fault("has a version that is no text")
    if size is not None and not (isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63):
        raise _Fault("has a size that is no number of bytes")
    # Some send the header's value, quotes and all.
    etag = etag.strip('"')
    if not etag:
        raise _Fault("has no eTag, by which versions are told apart")
    if len(etag) > _MAX_ETAG or not etag.isascii():
        raise _Fault(f"has an eTag of more than {_MAX_ETAG} characters, or one that is not ASCII")
    texts = (bucket, key, etag, version_id or "", happened.known_by)
    if any("\0" in value for value in texts) or max(map(len, texts)) > _MAX_TEXT:
        raise _Fault(f"has a NUL character, or a name of more than {_MAX_TEXT} characters")
    return Told(bucket, key, etag, version_id, size, happened.known_by, raw, happened.order, happened.at)


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise _Fault(f"has no `{name}`")
    return value


def _members(value: object) -> dict[str, Any]:
    """The members of an object, none of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _dumped(value: object) -> bytes:
    try:
        return orjson.dumps(value)[:MAX_RAW]
    except orjson.JSONEncodeError:
        # Deeper nesting can be read than written.
        return repr(value).encode()[:MAX_RAW]
