"""Writing down what a batch's jobs have found: its output file and its error file."""

from collections.abc import Iterator
from itertools import groupby
from tempfile import NamedTemporaryFile
from typing import IO
from uuid import UUID, uuid5

import orjson

from ocrfleet import failpoints
from ocrfleet.states import BatchStatus
from ocrfleet.store import batches, files
from ocrfleet.store.batches import Page
from ocrfleet.store.files import NewFile
from producer import completions
from producer.batch_turn import Held, line_id

_CHUNK = 500
_LONGEST = 2**20
_NAMES = UUID("6f637266-6c65-6574-8000-6261746368ff")


class Writing(Held):
    """What the jobs have found becomes the output and the error file."""

    def run(self) -> None:
        with self.database.statement() as session:
            late = batches.expired(session, self.turn.job_ids)
        status = BatchStatus.EXPIRED if late else BatchStatus.COMPLETED
        if self.turn.status is BatchStatus.CANCELLING:
            status = BatchStatus.CANCELLED
        unread = {BatchStatus.EXPIRED: "batch_expired", BatchStatus.CANCELLED: "batch_cancelled"}
        with NamedTemporaryFile() as output, NamedTemporaryFile() as errors:
            completed, failed = 0, self._copy_refused(errors)
            for n, job_id in enumerate(self.turn.job_ids):
                for answered, line in self._lines_of(n, job_id, unread.get(status, "not_carried_out")):
                    (output if answered else errors).write(line)
                    completed, failed = completed + answered, failed + (not answered)
            made = [
                self._file(name, file)
                for name, file in (("output", output), ("error", errors))
                if file.tell()
            ]
        failpoints.reach("batch.before_end")
        ids = {file.filename.removesuffix(".jsonl").rpartition("_")[2]: file.id for file in made}
        with self.database.transaction() as session:
            ended = batches.end(
                session,
                self.turn,
                status,
                completed=completed,
                failed=failed,
                output_file_id=ids.get("output"),
                error_file_id=ids.get("error"),
            )
            for file in made if ended else ():
                files.create(session, file)

    def _copy_refused(self, errors: IO[bytes]) -> int:
        copied = 0
        if self.turn.refused:
            for line in self.lines(self.settings.bucket, self.key("refused.jsonl"), _LONGEST):
                errors.write((line or b"{}") + b"\n")
                copied += 1
        return copied

    def _lines_of(self, n: int, job_id: UUID, unread: str) -> Iterator[tuple[bool, bytes]]:
        """A line for each of the manifest, whether the job ever came to it or not."""
        with self.database.statement() as session:
            task = batches.task_of(session, job_id)
        found = groupby(self._pages(job_id), key=lambda page: page.ordinal)
        ordinal, pages = next(found, (-1, iter(())))
        for number, raw in enumerate(self.lines(self.settings.bucket, self.key(f"{n}.jsonl"), _LONGEST)):
            self.renew()
            mine = list(pages) if ordinal == number else []
            if ordinal == number:
                ordinal, pages = next(found, (-1, iter(())))
            custom_id: str = orjson.loads(raw or b"{}").get("custom_id", "")
            given = f"{line_id(self.turn, number + 1)}_{n}"
            yield completions.line_of(given, custom_id, task, mine, unread)

    def _pages(self, job_id: UUID) -> Iterator[Page]:
        after = -1
        while True:
            with self.database.transaction() as session:
                chunk = list(batches.pages(session, job_id, after, _CHUNK))
            if not chunk:
                return
            yield from chunk
            after = chunk[-1].ordinal

    def _file(self, kind: str, file: IO[bytes]) -> NewFile:
        # The same id again, should this producer end before it is written down.
        file_id = f"file-{uuid5(_NAMES, f'{self.turn.id}/{kind}').hex}"
        size = self.put(f"{kind}.jsonl", file)
        return NewFile(
            id=file_id,
            tenant_id=self.turn.tenant_id,
            purpose="batch_output",
            filename=f"{self.turn.id}_{kind}.jsonl",
            bucket=self.settings.bucket,
            key=self.key(f"{kind}.jsonl"),
            bytes=size,
        )
