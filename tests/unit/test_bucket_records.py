"""What the stores tell, as they send it, and what is no event at all."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from ocrfleet import bucket_records
from ocrfleet.bucket_records import MAX_RAW, Malformed, Told


def minio(
    key: str = "in%2Fa+b%2B%C3%BC.pdf", name: str = "s3:ObjectCreated:Put", **object_: Any
) -> dict[str, Any]:
    """A record as MinIO posts it."""
    members = {"key": key, "size": 5, "eTag": "5d41402abc4b2a76b9719d911017c592", "sequencer": "17A2C3"}
    return {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventTime": "2026-11-20T09:00:00.000Z",
        "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "scans"}, "object": members | object_},
    }


def body(*records: dict[str, Any]) -> dict[str, Any]:
    return {"EventName": "s3:ObjectCreated:Put", "Key": "scans/in/a", "Records": list(records)}


def read(given: Any) -> list[Told | Malformed]:  # noqa: ANN401
    return bucket_records.read(given if isinstance(given, bytes) else orjson.dumps(given))


def only(given: Any) -> Told:  # noqa: ANN401
    (found,) = read(given)
    assert isinstance(found, Told), found
    return found


def fault(given: Any) -> str:  # noqa: ANN401
    (found,) = read(given)
    assert isinstance(found, Malformed), found
    return found.fault


def test_minio_tells_of_an_object_whose_key_is_url_encoded() -> None:
    told = only(body(minio()))
    assert (told.bucket, told.key, told.etag, told.version_id, told.size) == (
        "scans",
        "in/a b+ü.pdf",
        "5d41402abc4b2a76b9719d911017c592",
        None,
        5,
    )


def test_aws_tells_the_same_without_the_prefix_and_with_a_version() -> None:
    record = minio("a+b.pdf", "ObjectCreated:CompleteMultipartUpload", versionId="v1", eTag='"d41d-2"')
    told = only({"Records": [record]})
    assert (told.key, told.version_id, told.etag) == ("a b.pdf", "v1", "d41d-2")


def test_sns_wraps_the_same_in_a_message() -> None:
    wrapped = {"Type": "Notification", "MessageId": "1", "Message": orjson.dumps(body(minio())).decode()}
    assert only(wrapped).key == "in/a b+ü.pdf"
    assert "SubscribeURL" in fault({"Type": "SubscriptionConfirmation", "SubscribeURL": "https://x"})


def test_event_bridge_tells_keys_as_they_are() -> None:
    event = {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-11-20T09:00:00Z",
        "detail": {
            "bucket": {"name": "scans"},
            "object": {"key": "a+b%20.pdf", "size": 5, "etag": "b194", "version-id": "v2", "sequencer": "61"},
        },
    }
    told = only(event)
    assert (told.key, told.version_id, told.size) == ("a+b%20.pdf", "v2", 5)
    assert read([event, event | {"detail-type": "Object Deleted"}]) == [told]


def seaweedfs(**entry: Any) -> dict[str, Any]:
    """A message of the filer's webhook, as version 4.48 sends it."""
    kept = base64.b64encode(b"5d41402abc4b2a76b9719d911017c592").decode()
    given = {
        "name": "a b+ü.png",
        "chunks": [{"size": 5, "e_tag": "XUFAKrxLKna5cZ2REBfFkg=="}],
        "attributes": {"file_size": 5, "mtime": 1795203945, "md5": "XUFAKrxLKna5cZ2REBfFkg=="},
        "extended": {"Seaweed-X-Amz-ETag": kept},
    } | entry
    message = {"new_entry": given, "new_parent_path": "/buckets/ocr/in", "delete_chunks": True}
    return {"event_type": "create", "key": f"/buckets/ocr/in/{given['name']}", "message": message}


@pytest.mark.parametrize(
    ("entry", "etag"),
    [
        ({}, "5d41402abc4b2a76b9719d911017c592"),
        ({"extended": {}}, "5d41402abc4b2a76b9719d911017c592"),
        ({"extended": {}, "attributes": {"file_size": 5}}, "5d41402abc4b2a76b9719d911017c592"),
        (
            {
                "extended": {},
                "attributes": {},
                "chunks": [{"e_tag": base64.b64encode(bytes(16)).decode()}, {"e_tag": base64.b64encode(bytes(16)).decode()}],
            },
            hashlib.md5(bytes(32), usedforsecurity=False).hexdigest() + "-2",
        ),
        ({"extended": {}, "attributes": {}, "chunks": []}, "d41d8cd98f00b204e9800998ecf8427e"),
    ],
)  # fmt: skip
def test_seaweedfs_tells_of_files_with_the_etag_that_its_gateway_gives(
    entry: dict[str, Any], etag: str
) -> None:
    told = only(seaweedfs(**entry))
    assert (told.bucket, told.key, told.etag) == ("ocr", "in/a b+ü.png", etag)


def test_events_tell_when_they_happened_by_a_sequencer_or_a_time() -> None:
    told = only(body(minio()))
    assert (told.order, told.happened_at) == ("17A2C3", datetime(2026, 11, 20, 9, tzinfo=UTC))
    timed = only(seaweedfs(attributes={"file_size": 5, "mtime": 1795203945, "mtime_ns": 5000}))
    assert (timed.order, timed.happened_at) == (None, datetime.fromtimestamp(1795203945.000005, UTC))
    for time in (None, "yesterday", "0001-01-01T00:00:00+14:00", "2026-11-20T09:00:00"):
        odd = only(body(minio(sequencer=None) | {"eventTime": time}))
        assert odd.order is None
        assert (odd.happened_at is None) == (time != "2026-11-20T09:00:00")
    for mtime in (-1, 10**18, "1795203945", 1.5):
        assert only(seaweedfs(attributes={"mtime": mtime, "mtime_ns": "x"})).happened_at is None


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "scans"}, id="test event"),
        pytest.param(body(minio(name="s3:ObjectRemoved:Delete")), id="deletion"),
        pytest.param(body(minio(name="s3:ObjectAccessed:Get")), id="read"),
        pytest.param(body(minio("in%2F")), id="placeholder of a folder"),
        pytest.param(body(), id="no records"),
        pytest.param(seaweedfs(is_directory=True), id="folder"),
        pytest.param(seaweedfs() | {"message": {"old_entry": {"name": "a"}}}, id="deletion of a file"),
        pytest.param(
            {
                "event_type": "create",
                "key": "/buckets/ocr/.uploads/1/0001.part",
                "message": {"new_entry": {"name": "0001.part"}, "new_parent_path": "/buckets/ocr/.uploads/1"},
            },
            id="part of an upload",
        ),
        pytest.param(
            {"event_type": "create", "key": "/etc/a", "message": {"new_entry": {"name": "a"}}},
            id="no object of a bucket",
        ),
    ],
)
def test_what_makes_no_object_is_passed_over(given: Any) -> None:  # noqa: ANN401
    assert read(given) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":"\\ud800"}]}', "not JSON"),
        (b"null", "no event"),
        ([1], "no event"),
        ({"Records": 5}, "no event"),
        (body({"eventName": 5, "s3": {}}), "no `eventName`"),
        (body(minio(key="")), "no `key`"),
        (body(minio(key="%FF")), "not UTF-8"),
        (body(minio(key="a%00b")), "NUL"),
        (body(minio(key="a" * 1025)), "1025 bytes"),
        (body(minio(eTag=None)), "no `eTag`"),
        (body(minio(eTag='""')), "no eTag"),
        (body(minio(eTag="a" * 257)), "more than 256"),
        (body(minio(size=-1)), "size"),
        (body(minio(size=True)), "size"),
        (body(minio(versionId=5)), "version"),
        (seaweedfs(extended={"Seaweed-X-Amz-ETag": "%"}), "base64"),
        ({"Type": "Notification", "Message": "no JSON"}, "no event"),
    ],
)
def test_what_cannot_be_read_is_kept_with_its_fault(given: Any, why: str) -> None:  # noqa: ANN401
    assert why in fault(given)


def test_of_many_records_each_stands_for_itself() -> None:
    found = read(body(minio("a.png"), {"eventName": "s3:ObjectCreated:Put", "s3": {}}, minio("b.png")))
    assert [getattr(one, "key", "?") for one in found] == ["a.png", "?", "b.png"]


def test_the_same_event_is_known_again_whatever_else_it_says() -> None:
    told = only(body(minio()))
    again = minio()
    again["eventTime"] = "2027-01-01T00:00:00Z"
    assert only({"Records": [again]}).identity == told.identity
    for changed in ({"sequencer": "17A2C4"}, {"versionId": "v1"}, {"key": "b"}):
        assert only(body(minio(**changed))).identity != told.identity


def test_an_event_without_a_sequencer_is_told_apart_by_its_time_and_content() -> None:
    first = minio(sequencer=None)
    later = first | {"eventTime": "2026-11-20T10:00:00.000Z"}
    assert only(body(first)).identity == only(body(first)).identity != only(body(later)).identity


def test_no_more_is_kept_of_a_record_than_the_limit() -> None:
    (found,) = read({"nonsense": "a" * 2 * MAX_RAW})
    assert len(found.raw) == MAX_RAW
    (found,) = read(b"[" * 2 * MAX_RAW)
    assert len(found.raw) == MAX_RAW
    (found,) = read(b"[" * 500 + b"]" * 500)
    assert isinstance(found, Malformed)
