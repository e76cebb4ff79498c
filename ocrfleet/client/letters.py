"""Calls about dead letters: finding them, running them again, giving them up."""

from collections.abc import Mapping
from typing import Any

from ocrfleet.api_types import Letter, LetterDetail, LetterFilter, LetterGroup, Redrive, RedrivePlan
from ocrfleet.client.asks import Calls, part
from ocrfleet.client.calls import call, stream
from ocrfleet.client.steps import Send, Steps, Stream


class LetterCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @stream
    def dead_letters(self, which: LetterFilter | None = None, *, page_size: int = 100) -> Stream[Letter]:
        """Every letter that is meant, newest first, fetched page by page as the caller goes on."""
        return self.listed("/v1/dead-letters", {**(which or {}), "page_size": page_size})

    @call
    def count_dead_letters(self, by: str, which: LetterFilter | None = None) -> Steps[list[LetterGroup]]:
        """Letters in groups, by `code`, `revision`, `worker` or `job`, the largest group first."""
        return (yield from self.get("/v1/dead-letters", {**(which or {}), "group_by": by}))["data"]

    @call
    def dead_letter(self, letter_id: str) -> Steps[LetterDetail]:
        """One letter with every attempt."""
        return self.get(_letter(letter_id))

    @call
    def thumbnail(self, letter_id: str) -> Steps[bytes]:
        """The page, small, as a JPEG; ApiError `not_found` for one that was never decoded."""
        return (yield from self.ask(Send(method="GET", path=f"{_letter(letter_id)}/thumbnail"))).content

    @call
    def discard_dead_letters(self, which: LetterFilter, *, expected_count: int, reason: str) -> Steps[int]:
        """Give letters up; ApiError `job_state_conflict`, and nothing is done, unless there are as many."""
        body = {"filter": which, "expected_count": expected_count, "reason": reason}
        return (yield from self.send("POST", "/v1/dead-letters/discard", body))["discarded"]

    @call
    def plan_redrive(self, which: LetterFilter, *, max_per_second: float | None = None) -> Steps[RedrivePlan]:
        """What `create_redrive` would do. `max_per_second`: pages."""
        body = {"filter": which, "max_per_second": max_per_second, "validate_only": True}
        return self.send("POST", "/v1/redrives", body)

    @call
    def create_redrive(
        self,
        which: LetterFilter,
        *,
        max_per_second: float | None = None,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Steps[Redrive]:
        """Run letters again, with these options over those that they had; at most so many pages a second."""
        body = {"filter": which, **_how(max_per_second, options, reason)}
        return self.send("POST", "/v1/redrives", body)

    @call
    def retry_job(
        self,
        job_id: str,
        which: LetterFilter | None = None,
        *,
        max_per_second: float | None = None,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Steps[Redrive]:
        """Run a job's failed pages again, all of them or those that are meant."""
        body = {"filter": which or {}, **_how(max_per_second, options, reason)}
        return self.send("POST", f"/v1/jobs/{part(job_id)}/retry", body)

    @call
    def redrive(self, redrive_id: str) -> Steps[Redrive]:
        """How far a redrive is."""
        return self.get(f"/v1/redrives/{part(redrive_id)}")

    @stream
    def redrives(self, *, page_size: int = 100) -> Stream[Redrive]:
        """Every redrive, newest first."""
        return self.listed("/v1/redrives", {"page_size": page_size})


def _how(
    max_per_second: float | None, options: Mapping[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    override = {"options": options} if options else None
    return {"override": override, "max_per_second": max_per_second, "reason": reason}


def _letter(letter_id: str) -> str:
    return f"/v1/dead-letters/{part(letter_id)}"
