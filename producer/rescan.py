"""Rescans: the prefix of each rule is listed now and then, and what no event told of is taken all the same."""

import time
from collections.abc import Mapping
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

import structlog

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError
from ocrfleet.settings import Settings
from ocrfleet.store import rights, rolling, rule_objects, rules
from ocrfleet.store.rolling import Taken
from ocrfleet.store.rule_objects import Found
from ocrfleet.store.rules import Rule
from producer.events import limits

log = structlog.get_logger()

LEASE_SECONDS = 60.0
TURN_SECONDS = 2.0
"""After this long the next rule has its turn."""
QUOTA_SECONDS = 15.0
"""After which a listing goes on that would have opened a job over its tenant's quota."""
RETRY_AFTER = 3.0
_CHUNK = 1000


class Rescanner:
    """Any number of producers may do so at once, each with a rule of its own."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._limits = limits(settings)
        self._database = database
        self._blobs = blobs

    def step(self) -> bool:
        """Give one rule its turn; False if none is due."""
        with self._database.statement() as session:
            rule = rules.lease(session, LEASE_SECONDS)
        if rule is None:
            return False
        try:
            self._scan(rule)
        except CallerError as exc:
            # Somebody has to repair it: a bucket that is not there, or that may not be listed.
            log.warning("rescan_refused", rule=rule.name, code=exc.code, error=exc.detail)
            self._end(rule, fault=f"{exc.code}: {exc.detail}")
        except FleetError as exc:
            log.warning("rescan_postponed", rule=rule.name, code=exc.code, error=exc.detail)
            self._postpone(rule)
        return True

    def _scan(self, rule: Rule) -> None:
        until = time.monotonic() + TURN_SECONDS
        with self._database.statement() as session:
            held = rights.of_tenants(session, [rule.tenant_id], self._limits.bucket)
            asked = rule_objects.clock(session)
        held[rule.tenant_id].check_prefix(rule.bucket, rule.prefix)
        after = str(rule.cursor.get("after", ""))
        since = str(rule.cursor.get("since", asked.isoformat()))
        # Each chunk is listed outside any transaction; the cursor moves together with what is taken.
        keys = self._blobs.scan(rule.bucket, rule.prefix, start_after=after)
        current: Rule | None = rule
        while current is not None and (chunk := list(islice(keys, _CHUNK))):
            found = [Found(info.key, info.etag, info.version_id, at=asked, listed=True) for info in chunk]
            over = time.monotonic() >= until
            current = self._take(current, found, {"after": chunk[-1].key, "since": since}, over=over)
            failpoints.reach("rescan.chunk")
            if over:
                return
        while current is not None and self._forget(current, datetime.fromisoformat(since)):
            pass

    def _take(self, rule: Rule, found: list[Found], cursor: Mapping[str, Any], *, over: bool) -> Rule | None:
        """The rule with its cursor moved; None if the listing ends here.

        Somebody has changed the rule meanwhile, or goes on with it; or the rest waits for its tenant's quota.
        """
        with self._database.transaction() as session:
            held = rules.relock(session, rule)
            if held is None:
                return None
            taken = rolling.take(session, [(held, found)], self._limits)
            seconds = 0.0 if over else LEASE_SECONDS
            if taken.left:
                cursor, seconds = _before(rule, found, taken, cursor), QUOTA_SECONDS
            rules.advance(session, held, cursor, seconds)
        if taken.count:
            log.info("rescan_found", rule=rule.name, objects=taken.count)
        if taken.left:
            log.info("rescan_over_quota", rule=rule.name)
            return None
        return Rule(
            rule.id, rule.tenant_id, rule.name, rule.bucket, rule.prefix, rule.suffix, rule.job, rule.enabled, cursor
        )  # fmt: skip

    def _forget(self, rule: Rule, since: datetime) -> bool:
        """At the end of a whole listing: forget some of what is gone; False if that was the last, and the end."""
        with self._database.transaction() as session:
            held = rules.relock(session, rule)
            if held and rule_objects.forget(session, rule.id, since) == rule_objects.FORGOTTEN:
                return True
            if held:
                rules.finish(session, rule)
        return False

    def _end(self, rule: Rule, fault: str) -> None:
        with self._database.transaction() as session:
            rules.finish(session, rule, fault=fault)

    def _postpone(self, rule: Rule) -> None:
        """The lease alone is given back, as far as the cursor has come; a fault on the way loses nothing."""
        with self._database.transaction() as session:
            rules.postpone(session, rule, RETRY_AFTER)


def _before(rule: Rule, found: list[Found], taken: Taken, cursor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cursor before the first object that was left."""
    left = {key for _, _, key, _ in taken.left}
    behind = list(takewhile(lambda one: one.key not in left, found))
    return {**cursor, "after": behind[-1].key} if behind else rule.cursor
