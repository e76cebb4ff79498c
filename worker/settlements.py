"""What became of a page, as the record is told: its state, its attempt, and whether it runs again."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import orjson

from ocrfleet.errors import EngineCrashed, FleetError, PoisonPage
from ocrfleet.states import EXCLUSIVE_AFTER, PROOFS, PageState
from ocrfleet.store import outcomes
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.pages import ClaimedPage
from ocrfleet.store.settle import Settlement
from ocrfleet.store.usage import NOTHING, Spent
from worker import results, retry
from worker.decode import Found
from worker.engines.base import PageResult
from worker.escalation import Plan, charged


def of(
    page: ClaimedPage, incarnation: UUID, state: PageState, body: str = "{}", spent: Spent = NOTHING
) -> Settlement:
    """The settlement of a page that this worker leases."""
    return Settlement(
        page_id=page.id,
        fence=page.fence,
        job_id=page.job_id,
        item_id=page.item_id,
        attempt=page.attempt,
        state=state,
        body=body,
        incarnation=incarnation,
        exclusive=page.losses >= EXCLUSIVE_AFTER,
        spent=spent,
    )


def spent(found: Found, result: PageResult) -> Spent:
    """What a page took that the engine has read."""
    count, seconds = result.usage.get, found.timings_ms.get("infer", 0) / 1000
    return Spent(found.bytes, count("prompt_tokens", 0), count("output_tokens", 0), seconds)


def unpacked(page: ClaimedPage, incarnation: UUID, members: Sequence[NewItem]) -> Settlement:
    """An archive's page is that of the first file in it: it runs again, unless that file cannot be read."""
    error = members[0].error
    if error is None:
        return replace(of(page, incarnation, PageState.READY), members=members)
    dead = of(page, incarnation, PageState.DEAD, outcomes.error_body(error))
    return replace(dead, code=error.code, detail=error.detail, failed=not error.free, members=members)


def failed(
    page: ClaimedPage,
    plan: Plan,
    error: FleetError,
    incarnation: UUID,
    chance: random.Random,
    timings_ms: Mapping[str, int],
) -> Settlement:
    """The page's end, or its return for another try, by the error's class."""
    partial = error.extra.pop("partial", None)
    lost = isinstance(error, EngineCrashed) and error.alone
    if lost and page.losses >= EXCLUSIVE_AFTER and page.proofs + 1 >= PROOFS:
        error = PoisonPage("the page ended two engine processes while it ran alone", last=error.detail)
    same = charged(page).count(error.code)
    verdict = retry.decide(error, attempt=page.attempt, failures=page.failures, same=same, chance=chance)
    kept = replace(
        of(page, incarnation, PageState.DEAD),
        code=error.code,
        detail=error.detail,
        lost=lost,
        parameters=results.parameters(plan, partial),
        timings=orjson.dumps(timings_ms).decode(),
    )
    if isinstance(verdict, retry.Dead):
        return replace(kept, body=outcomes.error_body(error), failed=not error.free)
    return replace(kept, state=PageState.READY, delay=verdict.delay, failed=verdict.charged)
