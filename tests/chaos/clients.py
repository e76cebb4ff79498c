"""One client of the API: what it submits, what it is told, and what contradicts that.

A client believes only its own history: which jobs were acknowledged, which lines of results it has seen, and what it
was promised when it canceled or paused. What contradicts that is a breach, whatever the record says.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import httpx
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.api_types import Job as JobView
from ocrfleet.client import ApiError, Client, UnreachableError
from tests.chaos.rig import MISSING, POISON, Rig, expected_text, key

STILL = 1.5
"""Seconds for which nothing may move in a job that is paused."""
_AGAIN = 0.2
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class Findings:
    """What all clients have heard together, and what was wrong with it."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.lines = 0
        self.dead = 0
        self._lock = threading.Lock()

    def heard(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self.lines += 1
            self.dead += line["state"] == "dead"


class Tenant:
    """Calls the API for one tenant, with all the patience that its servers need while they are killed."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.name = name
        self.deadline = float("inf")
        """On the monotonic clock: the end of all patience."""
        self._rig = rig
        self._client = Client(rig.url, rig.keys[name], timeout=20.0)
        self._http = httpx.Client(
            base_url=rig.url,
            headers={"Authorization": f"Bearer {rig.keys[name]}"},
            timeout=20.0,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()
        self._http.close()

    def submit(self, numbers: range) -> str:
        """Until it is acknowledged. What was not may run as well; nobody reads that, and it must end all the same."""
        manifest = f"{numbers.start}-{numbers.stop}.jsonl"
        given: Any = {"type": "manifest", "bucket": "ocr", "key": manifest}
        return self._patiently(lambda: self._client.create_job(given)["id"])

    def view(self, job_id: str) -> JobView:
        return self._patiently(lambda: self._client.job(job_id))

    def act(self, job_id: str, act: str) -> int:
        """The status of the answer that stands; an act may be `delete`."""
        path = f"/v1/jobs/{job_id}"
        method, path = ("DELETE", path) if act == "delete" else ("POST", f"{path}/{act}")
        body = b"{}" if act == "retry" else b""

        def call() -> int:
            response = self._http.request(method, path, content=body, headers=_JSON)
            if response.status_code >= 500:
                raise UnreachableError(act)
            return response.status_code

        return self._patiently(call)

    def lines(self, job_id: str, seq: int, *, follow: bool) -> Iterator[dict[str, Any]]:
        """The job's results after `seq`, through any number of broken streams."""
        while True:
            try:
                line: Any
                for line in self._client.results(job_id, cursor=str(seq), follow=follow):
                    seq = line["seq"]
                    yield line
            except (UnreachableError, ApiError) as exc:
                self._wait(exc)
            else:
                return

    def outstanding(self, job_id: str) -> tuple[int, int] | None:
        """By the record: pages dispatched or running, and results so far; None while it cannot tell."""
        query = """
            SELECT (SELECT count(*) FROM pages WHERE job_id = j.id AND state IN ('dispatched', 'running')), result_seq
            FROM jobs j WHERE id = :job"""
        with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
            row = session.execute(text(query), {"job": UUID(job_id)}).one()
            return row[0], row[1]
        return None

    def _patiently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except (UnreachableError, ApiError, httpx.TransportError) as exc:
                self._wait(exc)

    def _wait(self, exc: Exception) -> None:
        """Before the next try, as any client would; a refusal stands, and patience ends."""
        if time.monotonic() > self.deadline or (isinstance(exc, ApiError) and exc.status < 500):
            raise exc
        rest(_AGAIN)


class Job:
    """What its client knows of one job."""

    def __init__(self, tenant: Tenant, job_id: str, numbers: range, findings: Findings) -> None:
        self.last: Mapping[str, Any] = {}
        """The line that came last."""
        self._tenant = tenant
        self.id = job_id
        self._numbers = numbers
        self._findings = findings
        self._seen: set[int] = set()
        self._dead: set[int] = set()
        self._again = False
        """Its dead pages were redriven: their lines come again."""
        self._seq = 0

    @property
    def heard(self) -> int:
        """Pages whose line has come."""
        return len(self._seen)

    def follow(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read what comes, to the job's end."""
        for line in self._tenant.lines(self.id, self._seq, follow=True):
            self._hear(line)
            if until():
                return

    def check_end(self) -> None:
        """Every page has been heard of, and the job says so too."""
        if missing := len(self._numbers) - self.heard:
            self._breach(f"{missing} of {len(self._numbers)} pages have no line at the end")
        if (state := self._tenant.view(self.id)["state"]) != "completed":
            self._breach(f"all lines are there, and it is {state}")

    def cancel(self) -> None:
        """What comes after the acknowledgement is too late, and the job ends."""
        status = self._tenant.act(self.id, "cancel")
        if status == 409:  # it had ended
            self.follow()
            self.check_end()
            return
        if status != 202:
            self._breach(f"cancel was answered with {status}")
        for line in self._tenant.lines(self.id, self._seq, follow=False):
            self._hear(line)
        known = self.heard
        self.follow()
        if self.heard > known:
            self._breach(f"{self.heard - known} results after an acknowledged cancel")
        if (state := self._tenant.view(self.id)["state"]) != "canceled":
            self._breach(f"canceled, it ended as {state}")

    def pause(self) -> None:
        """Once its running pages have ended, nothing moves until it is resumed."""
        if self._tenant.act(self.id, "pause") != 202:
            return
        while (before := self._tenant.outstanding(self.id)) is None or before[0]:
            rest(_AGAIN)
            if time.monotonic() > self._tenant.deadline:
                self._breach(f"paused, it did not come to rest: {before}")
                return
        rest(STILL)
        after = self._tenant.outstanding(self.id)
        if after not in (None, before):
            self._breach(f"paused, it went on: {before} became {after}")
        self._tenant.act(self.id, "resume")

    def retry(self) -> None:
        """Its dead pages run again, and die again: each has another line."""
        if not self._dead or self._tenant.act(self.id, "retry") != 202:
            return
        self._again = True
        self._seen -= self._dead
        self.follow()

    def delete(self) -> None:
        """From the acknowledgement on nobody sees it."""
        # Asked again after an answer that was lost, it may be gone already.
        if (status := self._tenant.act(self.id, "delete")) not in (202, 404):
            self._breach(f"delete was answered with {status}")
        with suppress(ApiError):
            self._breach(f"deleted, it is there: {self._tenant.view(self.id)}")

    def _hear(self, line: dict[str, Any]) -> None:
        number = int(line["key"].removesuffix(".png"))
        repeated = number in self._seen and not (self._again and number in self._dead)
        if number not in self._numbers or repeated or line["seq"] <= self._seq:
            self._breach(f"after line {self._seq}, a line that is not its next: {line}")
        code = _expected_code(number)
        if line.get("error", {}).get("code") != code:
            self._breach(f"object {number} should have ended with {code}: {line}")
        if code is None and line.get("text") != expected_text(key(number)):
            self._breach(f"object {number} has another text: {line}")
        self._seen.add(number)
        if code:
            self._dead.add(number)
        self._seq = line["seq"]
        self.last = line
        self._findings.heard(line)

    def _breach(self, said: str) -> None:
        self._findings.breaches.append(f"job {self.id} of {self._tenant.name}: {said}")


def _expected_code(number: int) -> str | None:
    if number == POISON:
        return "poison_page"
    return "input_not_found" if number % MISSING == MISSING - 1 else None


def rest(seconds: float) -> None:
    """Do nothing for so long."""
    threading.Event().wait(seconds)
