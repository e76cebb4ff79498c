"""A batch's turn: its lease, and its objects in our bucket."""

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import batches
from ocrfleet.store.batches import Turn

PREFIX = "batches/"
LEASE_SECONDS = 120.0
RENEW_EVERY = 20.0
WRITTEN = ("/output.jsonl", "/error.jsonl")
"""The ends of names of what a batch's callers read; everything else below its prefix is ours alone."""
_JSONL = "application/jsonl"


def images_of(tenant_id: UUID, batch_id: str) -> str:
    """The prefix in our bucket of images that the lines of a batch's input file hold themselves."""
    return f"uploads/{tenant_id}/{batch_id}/"


def own_prefix(batch_id: str) -> str:
    """The prefix in our bucket of a batch's manifests, and of the files that it ends with."""
    return f"{PREFIX}{batch_id}/"


def fault(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    """Why a batch failed, as its `errors` show it."""
    return {"code": code, "message": message, "line": line, "param": param}


class LeaseLost(Exception):  # noqa: N818 (it never leaves the producer)
    """Another producer has the batch."""


class Held:
    """A batch's turn, and what both kinds of turn need."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        turn: Turn,
        renew_every: float = RENEW_EVERY,
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.turn = turn
        self._renew_every = renew_every
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Now and then; raises LeaseLost."""
        if time.monotonic() < self._renewed + self._renew_every:
            return
        self._renewed = time.monotonic()
        with self.database.statement() as session:
            until = batches.renew(session, self.turn, LEASE_SECONDS)
        if until is None:
            raise LeaseLost
        self.turn = replace(self.turn, leased_until=until)

    def postpone(self, seconds: float) -> None:
        """Give the turn back; the next one is in so many seconds."""
        with self.database.statement() as session:
            batches.postpone(session, self.turn, seconds)

    def fail(self, *faults: dict[str, Any]) -> None:
        """End the batch as failed."""
        with self.database.transaction() as session:
            batches.fail(session, self.turn, faults)

    def key(self, name: str) -> str:
        return f"{own_prefix(self.turn.id)}{name}"

    def put(self, name: str, file: IO[bytes]) -> int:
        """Put what was written to a file that has a name; its size."""
        file.flush()
        self.blobs.put(self.settings.bucket, self.key(name), Path(file.name), _JSONL)
        return file.tell()

    def lines(self, bucket: str, key: str, longest: int) -> Generator[bytes | None]:
        """The lines of an object, without their ends; None for one that is too long."""
        with self.blobs.stream(bucket, key) as stream:
            yield from _lines(stream.chunks, longest)


def line_id(turn: Turn, number: int) -> str:
    """The `id` of a line of an output or error file."""
    return f"batch_req_{turn.id.removeprefix('batch_')}_{number}"


def _lines(chunks: Iterator[bytes], longest: int) -> Generator[bytes | None]:
    pieces, size = list[bytes](), 0
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*pieces, end]) if size + len(end) <= longest else None
            pieces, size = [], 0
        size += len(rest)
        # Of what is too long nothing is kept.
        pieces = [*pieces, rest] if size <= longest else []
    if size:
        yield b"".join(pieces) if size <= longest else None
