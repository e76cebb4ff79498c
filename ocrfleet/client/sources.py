"""What `submit` is given, as the input of a job: addresses of a bucket, local files, or an input as it is."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, TypeAlias, cast

import orjson

from ocrfleet.api_types import JobInput, ObjectRef
from ocrfleet.client.jobs import JobCalls, JobOptions
from ocrfleet.client.steps import Do, Steps, Together
from ocrfleet.client.uploads import TOGETHER, LocalFile, Upload, UploadCalls, local_files

Place: TypeAlias = str | PathLike[str]
"""s3://BUCKET/KEY, or a local file or folder."""
Source: TypeAlias = Place | Sequence[Place] | JobInput
S3 = "s3://"
MANIFESTS = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")
MOST_UPLOADS = 1000
"""Ids that one request may list."""


def submitting(client: Any, source: Source, task: str, options: JobOptions) -> Steps[str]:  # noqa: ANN401 (of either kind)
    """Submit a job, local files after they have been uploaded; its id.

    ValueError for a source that is none, OSError for a file that cannot be read.
    """
    job_input = described(source)
    if job_input is None:
        places = [source] if isinstance(source, str | PathLike) else list(cast("Sequence[Place]", source))
        files: list[LocalFile] = yield Do(lambda: local_files(places))
        job_input = yield from _uploaded(client, files)
    job = yield from JobCalls.create_job.steps(client, job_input, task=task, **options)
    return job["id"]


def described(source: Source) -> JobInput | None:
    """The input that a source stands for; None for local files. ValueError for one that is neither."""
    if isinstance(source, dict):
        return source
    if isinstance(source, str | PathLike):
        place = fspath(source)
        return _one(place) if place.startswith(S3) else None
    places = [fspath(place) for place in source]
    if not any(place.startswith(S3) for place in places):
        return None
    return {"type": "objects", "objects": [_object(place) for place in places]}


def _uploaded(client: Any, files: Sequence[LocalFile]) -> Steps[JobInput]:  # noqa: ANN401
    """The files as an input: each under its name, more than a request may list by a manifest of them."""
    each = [UploadCalls.upload_file.steps(client, file.path, name=file.name) for file in files]
    uploads: list[Upload] = yield Together(each, TOGETHER)
    if len(uploads) <= MOST_UPLOADS:
        return {"type": "uploads", "ids": [one["id"] for one in uploads]}
    lines = (
        {"bucket": one["bucket"], "key": one["key"], "custom_id": file.name}
        for one, file in zip(uploads, files, strict=True)
    )
    data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    manifest = yield from UploadCalls.upload_bytes.steps(client, data, "manifest.jsonl")
    return {"type": "manifest", "bucket": manifest["bucket"], "key": manifest["key"]}


def _one(place: str) -> JobInput:
    bucket, key = address(place)
    if key.endswith(MANIFESTS):
        return {"type": "manifest", "bucket": bucket, "key": key}
    return {"type": "prefix", "bucket": bucket, "prefix": key}


def _object(place: str) -> ObjectRef:
    bucket, key = address(place)
    if not key:
        raise ValueError(f"{place!r} names no object: s3://BUCKET/KEY")
    return {"bucket": bucket, "key": key}


def address(place: str) -> tuple[str, str]:
    """Bucket and key or prefix of s3://BUCKET/KEY; ValueError for anything else."""
    bucket, _, key = place.removeprefix(S3).partition("/")
    if not place.startswith(S3) or not bucket:
        raise ValueError(f"{place!r} is not s3://BUCKET/KEY")
    return bucket, key
