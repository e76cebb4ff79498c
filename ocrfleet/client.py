"""The Python SDK: a synchronous client of the HTTP API that repeats what is safe to repeat and resumes broken streams."""

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, Unpack
from urllib.parse import quote

import httpx
import orjson

from ocrfleet.api_types import Job, JobChanges, JobInput, Result, TaskInfo
from ocrfleet.client_letters import LetterCalls

BUSY = frozenset({429, 503})
"""The server refused before it did anything: every call may be repeated."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LONGEST_WAIT = 60.0
RECOGNIZE_TIMEOUT = 120.0


class ApiError(Exception):
    """The API refused: a problem document. `code` is one of ocrfleet.errors, or `http_<status>` from a proxy."""

    def __init__(self, response: httpx.Response) -> None:
        is_problem = response.headers.get("Content-Type", "").startswith("application/problem+json")
        problem: dict[str, Any] = response.json() if is_problem else {}
        self.status = response.status_code
        self.code: str = problem.get("code") or f"http_{self.status}"
        self.detail: str = problem.get("detail") or problem.get("title") or response.reason_phrase
        self.request_id: str | None = problem.get("request_id")
        self.errors: list[dict[str, str]] = problem.get("errors") or []
        self.retryable: bool = problem.get("retryable", self.status in BUSY)
        super().__init__(f"{self.code}: {self.detail}")


class UnreachableError(Exception):
    """The API did not answer, however often it was asked."""


class Client(LetterCalls):
    """One API under one key. `attempts` bounds the tries of one call; streams may break any number of times."""

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, attempts: int = 8) -> None:
        self.url = url.rstrip("/")
        self._attempts = attempts
        self._pause = threading.Event()
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout, connect=5.0),
            # A proxy for the internet does not reach a server of this machine.
            trust_env=httpx.URL(url).host not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; a call that waits for its next try fails at once."""
        self._pause.set()
        self._http.close()

    def create_job(
        self,
        job_input: JobInput,
        *,
        task: str = "text",
        prompt: str | None = None,
        fields: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        priority: int | None = None,
        deadline: str | None = None,
        labels: Mapping[str, str] | None = None,
        output: Mapping[str, Any] | None = None,
        webhook_ids: Sequence[str] | None = None,
    ) -> Job:
        """Submit a job; what a task needs and takes, `tasks` tells. `deadline` is ISO 8601."""
        body = {
            "input": job_input,
            "task": task,
            "prompt": prompt,
            "fields": fields,
            "output_schema": output_schema,
            "options": options,
            "priority": priority,
            "deadline": deadline,
            "labels": labels,
            "output": output,
            "webhook_ids": webhook_ids,
        }
        content = orjson.dumps({name: value for name, value in body.items() if value is not None})
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        request = self._http.build_request("POST", "/v1/jobs", content=content, headers=headers)
        return self._send(request).json()

    def job(self, job_id: str) -> Job:
        return self._get(_path(job_id)).json()

    def jobs(
        self, *, state: str | None = None, labels: Mapping[str, str] | None = None, page_size: int = 100
    ) -> Iterator[Job]:
        """Every job, newest first, fetched page by page as the caller goes on."""
        params = httpx.QueryParams({"page_size": page_size, **({"state": state} if state else {})})
        for name, value in (labels or {}).items():
            params = params.add("label", f"{name}:{value}")
        while True:
            page = self._get("/v1/jobs", params).json()
            yield from page["data"]
            if not page.get("next_page_token"):
                return
            params = params.set("page_token", page["next_page_token"])

    def cancel_job(self, job_id: str) -> Job:
        """Nothing more is begun, and what runs is aborted; canceling twice is no error. So are the other acts."""
        return self._act("POST", f"{_path(job_id)}/cancel")

    def pause_job(self, job_id: str) -> Job:
        return self._act("POST", f"{_path(job_id)}/pause")

    def resume_job(self, job_id: str) -> Job:
        return self._act("POST", f"{_path(job_id)}/resume")

    def update_job(self, job_id: str, **changes: Unpack[JobChanges]) -> Job:
        """Change what is named; a deadline of None takes it away, and so does a label's."""
        return self._act("PATCH", _path(job_id), changes)

    def delete_job(self, job_id: str) -> Job:
        """Delete an ended job and its results; the answer is the last of it."""
        return self._act("DELETE", _path(job_id))

    def results(self, job_id: str, *, cursor: str | None = None, follow: bool = False) -> Iterator[Result]:
        """Results in order of `seq`, each once, from after `cursor` (a seq); with `follow` until the job ends."""
        barren = 0
        while barren < self._attempts:
            params = {"follow": str(follow).lower(), **({"cursor": cursor} if cursor else {})}
            request = self._http.build_request("GET", f"{_path(job_id)}/results", params=params)
            response = self._send(request, stream=True)
            barren += 1
            try:
                for record in _records(response):
                    if "_end" in record:
                        return
                    barren, cursor = 0, str(record["seq"])
                    yield record
            except httpx.ReadTimeout:
                barren = 0  # silence is no failure: a job may have nothing to tell for long
            except httpx.TransportError:
                pass  # resumed after the last line that came whole
            finally:
                response.close()
            self._pause.wait(_backoff(barren))
        raise UnreachableError(f"the stream of results broke {barren} times without a line: {self.url}")

    def recognize(
        self,
        image: bytes,
        *,
        name: str = "image",
        task: str = "text",
        prompt: str | None = None,
        fields: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Result:
        """Read one image now, on the interactive lane."""
        members = {"fields": fields, "output_schema": output_schema, "options": options}
        packed = {name: orjson.dumps(value).decode() for name, value in members.items() if value is not None}
        form = {"task": task, **({"prompt": prompt} if prompt is not None else {}), **packed}
        files = {"file": (name, image)}
        return self._send(
            self._http.build_request("POST", "/v1/ocr", data=form, files=files, timeout=RECOGNIZE_TIMEOUT)
        ).json()

    def tasks(self) -> list[TaskInfo]:
        return self._get("/v1/tasks").json()["data"]

    def fleet(self) -> dict[str, Any]:
        """The workers, what they do, and the pages that wait in each lane."""
        return self._get("/v1/fleet").json()

    def ready(self) -> dict[str, Any]:
        """What /readyz says, ready or not: `checks` by server. Asked once, without patience."""
        try:
            return self._http.get("/readyz").json()
        except (httpx.TransportError, ValueError) as exc:
            raise UnreachableError(f"no answer from {self.url}: {exc}") from exc

    def _get(self, path: str, params: httpx.QueryParams | None = None) -> httpx.Response:
        return self._send(self._http.build_request("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._send(self._http.build_request("POST", path, json=body, headers=headers))

    def _act(self, method: str, path: str, body: object = None) -> Job:
        return self._send(self._http.build_request(method, path, json=body), repeatable=True).json()

    def _send(
        self, request: httpx.Request, *, stream: bool = False, repeatable: bool = False
    ) -> httpx.Response:
        """Send until an answer that stands. What may have been done already is repeated if that does no harm."""
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._http.send(request, stream=stream)
            except httpx.TransportError as exc:
                harmless = repeatable or request.method == "GET"
                untouched = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
                if not (harmless or untouched) or attempt == self._attempts or self._pause.is_set():
                    raise UnreachableError(f"no answer from {self.url}: {exc or type(exc).__name__}") from exc
                wait = _backoff(attempt)
            else:
                if response.status_code not in BUSY or attempt == self._attempts:
                    return _checked(response)
                response.close()
                wait = _retry_after(response) or _backoff(attempt)
            self._pause.wait(wait)
        raise UnreachableError("no attempt was allowed")


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _backoff(failures: int) -> float:
    return min(0.125 * 2**failures, 5.0)


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_WAIT) if value.isdecimal() else 0.0


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    response.read()
    response.close()
    raise ApiError(response)


def _records(response: httpx.Response) -> Iterator[Result]:
    """The stream's JSON lines. Split at newlines only: httpx would also split inside a text, at U+2028."""
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (orjson.loads(line) for line in lines if line.strip())
