"""The work of `run`: files in, a job, results out; every step can be repeated after a kill."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrfleet.api_types import Job
from ocrfleet.blobs import Blobs
from ocrfleet.cli.console import say
from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Display, watch
from ocrfleet.cli.puts import MANIFEST_TYPE, clear, upload
from ocrfleet.cli.record import ResultsFile, RunFolder
from ocrfleet.client import ApiError, Client
from ocrfleet.errors import UnknownTask
from ocrfleet.states import JOB_TERMINAL


@dataclass(frozen=True, slots=True)
class Place:
    """A fleet's API, and the bucket that it can read and we can write."""

    client: Client
    blobs: Blobs
    bucket: str
    ours: bool = True
    """Whether it lives as long as we need it; another process's may stop at any time."""


def carry_out(
    place: Place,
    folder: RunFolder,
    find: Callable[[], Sequence[LocalFile]],
    *,
    wanted: Mapping[str, Any],
    screen: Display,
) -> Job:
    """Submit the files that `find` finds, or go on with the job of an earlier call; returns the job when it has ended.

    `wanted` says what is to be done with them, as `create_job` takes it.
    """
    job_id = _unfinished(place.client, folder)
    if job_id:
        say(f"going on with job {job_id}, which an earlier call began")
    else:
        folder.results.unlink(missing_ok=True)
        job_id = _submit(place, folder, find(), wanted=wanted, screen=screen)
    folder.job_id = job_id
    job = _follow(place.client, job_id, folder.results, screen)
    clear(place.blobs, place.bucket, f"runs/{folder.id}")
    return job


def _unfinished(client: Client, folder: RunFolder) -> str | None:
    """The job of an earlier call: the one remembered, or one submitted just before that call was killed."""
    if not folder.manifest.exists():
        return None
    if folder.job_id:
        try:
            return client.job(folder.job_id)["id"]
        except ApiError as exc:
            if exc.status != 404:
                raise
    jobs = client.jobs(labels={"run": folder.id}, page_size=10)
    return next((job["id"] for job in jobs if job["state"] not in JOB_TERMINAL), None)


def _submit(
    place: Place,
    folder: RunFolder,
    files: Sequence[LocalFile],
    *,
    wanted: Mapping[str, Any],
    screen: Display,
) -> str:
    task: str = wanted["task"]
    known = [info["name"] for info in place.client.tasks() if info["available"]]
    if task not in known:
        raise UnknownTask(f"no engine of this fleet can do {task!r}; it can do {', '.join(known)}")
    folder.write_manifest(upload(place.blobs, place.bucket, f"runs/{folder.id}/", files, screen))
    key = f"runs/{folder.id}.jsonl"
    place.blobs.put(place.bucket, key, folder.manifest, MANIFEST_TYPE)
    job = place.client.create_job(
        {"type": "manifest", "bucket": place.bucket, "key": key}, **wanted, labels={"run": folder.id}
    )
    return job["id"]


def _follow(client: Client, job_id: str, results: Path, screen: Display) -> Job:
    stop = threading.Event()
    with ResultsFile(results) as file, ThreadPoolExecutor(1) as pool:
        # What fails in there fails here too.
        pool.submit(watch, client, job_id, screen, stop)
        try:
            while True:
                job = client.job(job_id)
                over = job["state"] in JOB_TERMINAL
                for result in client.results(job_id, cursor=file.cursor, follow=not over):
                    file.add(result)
                if over:
                    return job
        finally:
            stop.set()
