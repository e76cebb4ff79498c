"""Letting callers put objects into the store without its keys: presigned forms, and presigned parts of large objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from minio.datatypes import PostPolicy

from ocrfleet.errors import InputNotFound
from ocrfleet.s3 import client, translated
from ocrfleet.settings import Settings


@dataclass(frozen=True, slots=True)
class Form:
    """Where to POST a multipart/form-data, with these fields before its `file`."""

    url: str
    fields: dict[str, str]


class Presigner:
    """Signs for callers, under the address by which they reach the store; safe for use by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._url = (settings.store_public_url or settings.store_url).rstrip("/")
        # What is signed by the one is asked for by callers; the other asks itself.
        self._public: Any = client(settings, self._url)
        self._client: Any = client(settings)

    def form(self, bucket: str, key: str, *, most: int, content_type: str | None, seconds: float) -> Form:
        """A form by which an object of 1 to `most` bytes can be put under the key, for so long."""
        policy: Any = PostPolicy(bucket, datetime.now(UTC) + timedelta(seconds=seconds))
        policy.add_equals_condition("key", key)
        policy.add_content_length_range_condition(1, most)
        fields = {"key": key}
        if content_type:
            policy.add_equals_condition("Content-Type", content_type)
            fields["Content-Type"] = content_type
        with translated(bucket, key):
            signed = cast("dict[str, str]", self._public.presigned_post_policy(policy))
        return Form(f"{self._url}/{bucket}", fields | signed)

    def begin(self, bucket: str, key: str, content_type: str | None) -> str:
        """Begin an upload in parts; returns the store's id of it."""
        headers = {"Content-Type": content_type or "application/octet-stream"}
        with translated(bucket, key):
            return self._client._create_multipart_upload(bucket, key, headers)  # noqa: SLF001

    def part(self, bucket: str, key: str, upload: str, number: int, *, seconds: float) -> str:
        """A URL to which the part (from 1) can be PUT, for so long, but not longer than a store signs for."""
        expires = timedelta(seconds=min(seconds, 7 * 86400.0))
        query = {"partNumber": str(number), "uploadId": upload}
        with translated(bucket, key):
            return self._public.get_presigned_url(
                "PUT", bucket, key, expires=expires, extra_query_params=query
            )

    def parts(self, bucket: str, key: str, upload: str) -> dict[int, int]:
        """Bytes of the parts that are there, by number; InputNotFound if the upload is over or gone."""
        return {int(part.part_number): int(part.size) for part in self._parts(bucket, key, upload)}

    def finish(self, bucket: str, key: str, upload: str) -> None:
        """Put the parts together; InputNotFound if that was done before."""
        found = self._parts(bucket, key, upload)
        with translated(bucket, key):
            self._client._complete_multipart_upload(bucket, key, upload, found)  # noqa: SLF001

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Remove the parts; no error if there are none any more."""
        try:
            with translated(bucket, key):
                self._client._abort_multipart_upload(bucket, key, upload)  # noqa: SLF001
        except InputNotFound:
            return

    def _parts(self, bucket: str, key: str, upload: str) -> Sequence[Any]:
        found: list[Any] = []
        marker: str | None = None
        with translated(bucket, key):
            while True:
                page = self._client._list_parts(bucket, key, upload, part_number_marker=marker)  # noqa: SLF001
                found += page.parts
                if not page.is_truncated:
                    return found
                marker = str(page.next_part_number_marker)


def connect(settings: Settings) -> Presigner | None:
    """Who signs for the store of the settings; None if that takes no signatures. Nothing is sent yet."""
    return Presigner(settings) if urlsplit(settings.store_url).scheme in ("http", "https") else None
