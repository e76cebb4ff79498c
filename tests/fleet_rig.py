"""A worker of the record alone: it ends pages as a test says, without a process or an engine."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from fleet_builders import add_worker, send

from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.states import PageState
from ocrfleet.store import outcomes, pages
from ocrfleet.store.settle import Settlement, settle


def settle_all(database: Database, job_id: UUID, results: Sequence[Mapping[str, Any] | FleetError]) -> None:
    """Dispatch and claim as many of the job's pages as there are results, and end each with one."""
    incarnation = add_worker(database)
    batch = send(database, job_id, limit=len(results))
    with database.transaction() as session:
        claimed = pages.claim(session, incarnation, batch.pages)
    assert len(claimed) == len(results)
    done = [_settlement(page, result) for page, result in zip(claimed, results, strict=True)]
    with database.transaction() as session:
        assert len(settle(session, done)) == len(results)


def _settlement(page: pages.ClaimedPage, result: Mapping[str, Any] | FleetError) -> Settlement:
    ended = (page.id, page.fence, page.job_id, page.item_id, page.attempt)
    if isinstance(result, FleetError):
        body = outcomes.error_body(result)
        return Settlement(*ended, PageState.DEAD, body, result.code, result.detail)
    return Settlement(*ended, PageState.SUCCEEDED, orjson.dumps(result).decode())
