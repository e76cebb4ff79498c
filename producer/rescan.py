"""Rescans: the prefix of each rule is listed now and then, and what no event told of is taken all the same."""

import time
from itertools import islice

import structlog

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError
from ocrfleet.settings import Settings
from ocrfleet.store import rolling, rules
from ocrfleet.store.rolling import Found
from ocrfleet.store.rules import Rule
from producer.events import limits

log = structlog.get_logger()

LEASE_SECONDS = 60.0
TURN_SECONDS = 2.0
"""After this long the next rule has its turn."""
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
        after = str(rule.cursor.get("after", ""))
        # Each chunk is listed outside any transaction; the cursor moves together with what is taken.
        keys = self._blobs.scan(rule.bucket, rule.prefix, start_after=after)
        current: Rule | None = rule
        while current is not None and (chunk := list(islice(keys, _CHUNK))):
            found = [Found(info.key, info.etag, info.version_id) for info in chunk]
            over = time.monotonic() >= until
            current = self._take(current, found, chunk[-1].key, over=over)
            failpoints.reach("rescan.chunk")
            if over:
                return
        if current is not None:
            self._end(current)

    def _take(self, rule: Rule, found: list[Found], after: str, *, over: bool) -> Rule | None:
        """The rule with its cursor moved; None if somebody has changed it meanwhile, or goes on with it."""
        cursor = {"after": after}
        with self._database.transaction() as session:
            held = rules.relock(session, rule)
            if held is None:
                return None
            taken = rolling.take(session, [(held, found)], self._limits)
            rules.advance(session, held, cursor, 0.0 if over else LEASE_SECONDS)
        if taken:
            log.info("rescan_found", rule=rule.name, objects=taken)
        return Rule(
            rule.id, rule.tenant_id, rule.name, rule.bucket, rule.prefix, rule.suffix, rule.job, rule.enabled, cursor
        )  # fmt: skip

    def _end(self, rule: Rule, fault: str | None = None) -> None:
        with self._database.transaction() as session:
            rules.finish(session, rule, fault=fault)

    def _postpone(self, rule: Rule) -> None:
        """The lease alone is given back, as far as the cursor has come; a fault on the way loses nothing."""
        with self._database.transaction() as session:
            rules.postpone(session, rule, RETRY_AFTER)
