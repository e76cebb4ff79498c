"""Jobs whose pages end as a test wants, and what the API lists of them."""

from typing import Any
from uuid import UUID

from api_rig import Api, Expand, Worker

from ocrfleet.errors import FleetError

PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}
TEXT = {"text": "a"}


class Runs:
    """Makes jobs whose pages end so, read by one worker."""

    def __init__(self, api: Api, expand: Expand, worker: Worker) -> None:
        self._api, self._expand, self._worker = api, expand, worker

    def __call__(self, *ends: dict[str, Any] | FleetError) -> UUID:
        self._api.http.post("/v1/jobs", json=PREFIX)
        job_id = self._expand(len(ends))
        self.again(job_id, *ends)
        return job_id

    def again(self, job_id: UUID, *ends: dict[str, Any] | FleetError) -> None:
        """End as many of its ready pages."""
        assert self._worker.settle([job_id], ends) == len(ends)


def listed(api: Api, **params: Any) -> list[dict[str, Any]]:
    """One page of the list."""
    answer = api.http.get("/v1/dead-letters", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]
