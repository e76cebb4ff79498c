"""The part of the Python SDK that is about dead letters: finding them, running them again, giving them up."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from ocrfleet.api_types import Letter, LetterDetail, LetterFilter, LetterGroup, Redrive, RedrivePlan


class LetterCalls(Protocol):
    """Methods of `Client`, which sends what they ask."""

    def _get(self, path: str, params: httpx.QueryParams | None = None) -> httpx.Response: ...

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response: ...

    def dead_letters(self, which: LetterFilter | None = None, *, page_size: int = 100) -> Iterator[Letter]:
        """Every letter that is meant, newest first, fetched page by page as the caller goes on."""
        return self._listed("/v1/dead-letters", {**(which or {}), "page_size": page_size})

    def count_dead_letters(self, by: str, which: LetterFilter | None = None) -> list[LetterGroup]:
        """Letters in groups, by `code`, `revision`, `worker` or `job`, the largest group first."""
        query: dict[str, Any] = {**(which or {}), "group_by": by}
        return self._get("/v1/dead-letters", httpx.QueryParams(query)).json()["data"]

    def dead_letter(self, letter_id: str) -> LetterDetail:
        """One letter with every attempt."""
        return self._get(_letter(letter_id)).json()

    def thumbnail(self, letter_id: str) -> bytes:
        """The page, small, as a JPEG; ApiError `not_found` for one that was never decoded."""
        return self._get(f"{_letter(letter_id)}/thumbnail").content

    def discard_dead_letters(self, which: LetterFilter, *, expected_count: int, reason: str) -> int:
        """Give letters up; ApiError `job_state_conflict`, and nothing is done, unless there are as many."""
        body = {"filter": which, "expected_count": expected_count, "reason": reason}
        return self._post("/v1/dead-letters/discard", body).json()["discarded"]

    def plan_redrive(self, which: LetterFilter, *, max_per_second: float | None = None) -> RedrivePlan:
        """What `create_redrive` would do."""
        body = {"filter": which, "max_per_second": max_per_second, "validate_only": True}
        return self._post("/v1/redrives", body).json()

    def create_redrive(
        self,
        which: LetterFilter,
        *,
        max_per_second: float | None = None,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Redrive:
        """Run letters again, with these options over those that they had."""
        body = {"filter": which, **_how(max_per_second, options, reason)}
        return self._post("/v1/redrives", body).json()

    def retry_job(
        self,
        job_id: str,
        which: LetterFilter | None = None,
        *,
        max_per_second: float | None = None,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Redrive:
        """Run a job's failed pages again, all of them or those that are meant."""
        body = {"filter": which or {}, **_how(max_per_second, options, reason)}
        return self._post(f"/v1/jobs/{quote(job_id, safe='')}/retry", body).json()

    def redrive(self, redrive_id: str) -> Redrive:
        """How far a redrive is."""
        return self._get(f"/v1/redrives/{quote(redrive_id, safe='')}").json()

    def redrives(self, *, page_size: int = 100) -> Iterator[Redrive]:
        """Every redrive, newest first."""
        return self._listed("/v1/redrives", {"page_size": page_size})

    def _listed(self, path: str, query: Mapping[str, Any]) -> Iterator[Any]:
        params = httpx.QueryParams(query)
        while True:
            page = self._get(path, params).json()
            yield from page["data"]
            if not page["next_page_token"]:
                return
            params = params.set("page_token", page["next_page_token"])


def _how(
    max_per_second: float | None, options: Mapping[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    override = {"options": options} if options else None
    return {"override": override, "max_per_second": max_per_second, "reason": reason}


def _letter(letter_id: str) -> str:
    return f"/v1/dead-letters/{quote(letter_id, safe='')}"
