"""Reading a batch's input file: it becomes a manifest, and a job, for each prompt with its parameters."""

from contextlib import ExitStack
from tempfile import NamedTemporaryFile
from typing import IO, Any
from uuid import uuid4

import orjson
from sqlalchemy import RowMapping

from ocrfleet import failpoints
from ocrfleet.catalogue import TASKS, tasks_of
from ocrfleet.errors import CallerError
from ocrfleet.store import batches, files, workers
from ocrfleet.store.jobs import NewJob
from producer import chat, completions
from producer.batch_turn import Held, fault, images_of, line_id
from producer.chat import LineFault, Wanted

MAX_LINES, MAX_JOBS, MAX_FAULTS = 50_000, 50, 100
_LABEL = "openai_batch"


class BatchRefused(Exception):  # noqa: N818 (it never leaves this file)
    """The input file is no batch; `faults` are {code, line, message, param}."""

    def __init__(self, *faults: dict[str, Any]) -> None:
        super().__init__(faults[0]["message"])
        self.faults = faults


class Reading(Held):
    """The input file becomes a manifest for each prompt with its parameters."""

    def run(self) -> None:
        """Make the batch's jobs, or end it as failed."""
        with ExitStack() as opened:
            self._manifests: dict[Wanted, IO[bytes]] = {}
            self._opened = opened
            self._refused: IO[bytes] = opened.enter_context(NamedTemporaryFile())
            self._available = self._tasks()
            # Of an earlier turn that came to nothing: each line's image has its name.
            found = self.blobs.scan(self.settings.bucket, images_of(self.turn.tenant_id, self.turn.id))
            self._there = {info.key for info in found}
            try:
                file = self._input()
                lines, refused = self._read(file["bucket"], file["key"])
                self._begin(lines, refused)
            except BatchRefused as exc:
                self.fail(*exc.faults)
            except CallerError as exc:
                self.fail(fault("input_file_not_readable", exc.detail))

    def _input(self) -> RowMapping:
        with self.database.statement() as session:
            file = files.get(session, self.turn.tenant_id, self.turn.input_file_id)
        if file is None:
            raise BatchRefused(fault("input_file_not_found", "The input file is not there."))
        return file

    def _tasks(self) -> frozenset[str]:
        with self.database.statement() as session:
            live = workers.tasks(session, self.settings.heartbeat_timeout)
        return frozenset(live or tasks_of(self.settings.engine)) & TASKS.keys()

    def _read(self, bucket: str, key: str) -> tuple[int, int]:
        """The number of lines, and of those that no job is made for."""
        limit = self.settings.sync_max_bytes
        seen, refused, faults = set[str](), 0, list[dict[str, Any]]()
        for number, raw in enumerate(self.lines(bucket, key, limit * 4 // 3 + 64 * 1024), 1):
            self.renew()
            if raw is not None and not raw.strip():
                continue
            try:
                refused += not self._read_line(raw, number, seen)
            except LineFault as exc:
                faults.append(fault(exc.code, exc.message, number, exc.param))
                if len(faults) == MAX_FAULTS:
                    break
        if faults:
            raise BatchRefused(*faults)
        if not seen:
            raise BatchRefused(fault("empty_file", "The input file has no lines."))
        return len(seen), refused

    def _read_line(self, raw: bytes | None, number: int, seen: set[str]) -> bool:
        """Whether a job will read it; LineFault for what makes the whole file no batch."""
        if raw is None:
            raise LineFault("line_too_long", "The line is longer than any image may be.")
        custom_id, members = chat.custom_id_of(raw)
        if custom_id in seen:
            raise LineFault("duplicate_custom_id", f"`custom_id` {custom_id!r} is there twice.", "custom_id")
        if len(seen) == MAX_LINES:
            raise LineFault("too_many_requests", f"A batch has at most {MAX_LINES} lines.")
        seen.add(custom_id)
        try:
            request = chat.parse(custom_id, members, max_bytes=self.settings.sync_max_bytes)
            self._add(request, number)
        except LineFault as exc:
            self._refused.write(
                completions.refused_line(line_id(self.turn, number), custom_id, exc.code, exc.message)
            )
            return False
        return True

    def _add(self, request: chat.Request, number: int) -> None:
        wanted = request.wanted
        if wanted.task not in self._available:
            known = ", ".join(sorted(self._available))
            raise LineFault(
                "unknown_task", f"No engine of this fleet can do {wanted.task!r}; it can do {known}."
            )
        if len(wanted.prompt or "") > (most := self.settings.max_prompt_chars):
            detail = f"The prompt may have {most} characters, it has {len(wanted.prompt or '')}."
            raise LineFault("prompt_too_long", detail)
        if wanted not in self._manifests:
            if len(self._manifests) == MAX_JOBS:
                detail = f"A batch has at most {MAX_JOBS} different prompts or parameters; send the rest in another."
                raise LineFault("too_many_prompts", detail)
            self._manifests[wanted] = self._opened.enter_context(NamedTemporaryFile())  # noqa: SIM115
        bucket, key = self._place(request.image, number)
        line = {"bucket": bucket, "key": key, "custom_id": request.custom_id}
        self._manifests[wanted].write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _place(self, image: chat.Inline | tuple[str, str], number: int) -> tuple[str, str]:
        if isinstance(image, tuple):
            return image
        key = f"{images_of(self.turn.tenant_id, self.turn.id)}{number}{image.suffix}"
        if key not in self._there:
            self.blobs.put(self.settings.bucket, key, image.data, "application/octet-stream")
        return self.settings.bucket, key

    def _begin(self, lines: int, refused: int) -> None:
        made: list[NewJob] = []
        for n, (wanted, file) in enumerate(self._manifests.items()):
            self.put(f"{n}.jsonl", file)
            made.append(
                NewJob(
                    id=uuid4(),
                    tenant_id=self.turn.tenant_id,
                    task=wanted.task,
                    input={"type": "manifest", "bucket": self.settings.bucket, "key": self.key(f"{n}.jsonl")},
                    prompt=wanted.prompt,
                    options=orjson.loads(wanted.options),
                    labels={_LABEL: self.turn.id},
                    deadline=self.turn.expires_at,
                )
            )
        if refused:
            self.put("refused.jsonl", self._refused)
        failpoints.reach("batch.before_begin")
        with self.database.transaction() as session:
            begun = batches.begin(session, self.turn, made, lines=lines, refused=refused)
        if not begun:
            # Canceled meanwhile: it is written down at the next turn.
            self.postpone(0.0)
