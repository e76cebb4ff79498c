"""The SDK: what it repeats, what it does not, and how a broken stream goes on."""

from collections.abc import Iterator
from typing import Any

import pytest
from cli_fakes import KEY, FakeApi

from ocrfleet.client import ApiError, Client, UnreachableError


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.fixture
def client(api: FakeApi) -> Iterator[Client]:
    with Client(api.url, KEY, attempts=3) as client:
        yield client


def job_with(api: FakeApi, *texts: str) -> str:
    job = api.submit({"input": {"type": "objects"}, "task": "text"})
    lines: list[dict[str, Any]] = [{"seq": seq, "text": text} for seq, text in enumerate(texts, 1)]
    api.results[job["id"]] = lines
    return job["id"]


@pytest.mark.parametrize("sent", [0, 5, 10_000], ids=["before the line", "inside it", "right after it"])
def test_a_broken_stream_goes_on_and_gives_each_line_once(api: FakeApi, client: Client, sent: int) -> None:
    job = job_with(api, "one", "two", "three")
    api.cuts = [(2, sent), (3, sent)]
    assert [result["seq"] for result in client.results(job)] == [1, 2, 3]
    assert len(api.requests) == 3


def test_a_stream_that_breaks_without_a_line_is_given_up(api: FakeApi, client: Client) -> None:
    job = job_with(api, "one", "two")
    api.cuts = [(2, 0)] * 9
    with pytest.raises(UnreachableError, match="without a line"):
        list(client.results(job))
    assert len(api.requests) == 4


def test_unicode_line_separators_in_a_text_do_not_split_its_line(api: FakeApi, client: Client) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf"
    assert [result.get("text") for result in client.results(job_with(api, text))] == [text]


def test_results_begin_after_the_cursor(api: FakeApi, client: Client) -> None:
    job = job_with(api, "one", "two", "three")
    assert [result["seq"] for result in client.results(job, cursor="2")] == [3]


def test_a_busy_server_is_asked_again(api: FakeApi, client: Client) -> None:
    api.busy = 2
    assert client.job(job_with(api, "one"))["state"] == "completed"
    assert len(api.requests) == 3


def test_a_server_that_stays_busy_is_given_up_with_its_own_words(api: FakeApi, client: Client) -> None:
    api.busy = 99
    with pytest.raises(ApiError) as caught:
        client.job("x")
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("no_capacity", 503, True)
    assert len(api.requests) == 3


def test_a_refusal_carries_the_problem_and_is_not_repeated(api: FakeApi, client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.job("nothing/there")
    error = caught.value
    assert (error.code, error.status, error.detail, error.request_id) == (
        "not_found",
        404,
        "not_found!",
        "r1",
    )
    assert api.requests == ["GET /v1/jobs/nothing%2Fthere"]


def test_nobody_listening_is_unreachable() -> None:
    with FakeApi() as gone:
        pass
    with Client(gone.url, KEY, attempts=2) as client, pytest.raises(UnreachableError, match=gone.url):
        client.job("x")


def test_a_submission_whose_answer_was_lost_is_sent_again_under_its_own_key(
    api: FakeApi, client: Client
) -> None:
    """The API knows the key again, and answers what it answered then."""
    api.hang_ups = 2
    client.create_job({"type": "prefix", "bucket": "b", "prefix": ""})
    assert api.requests == ["POST /v1/jobs"] * 3
    assert len({headers["Idempotency-Key"] for headers in api.headers}) == 1


def test_every_submission_has_an_idempotency_key_of_its_own(api: FakeApi, client: Client) -> None:
    for _ in range(2):
        client.create_job({"type": "prefix", "bucket": "b", "prefix": ""})
    assert len({headers["Idempotency-Key"] for headers in api.headers}) == 2


def test_all_jobs_are_listed_over_several_pages(api: FakeApi, client: Client) -> None:
    made = [job_with(api) for _ in range(5)]
    assert [job["id"] for job in client.jobs(page_size=2)] == made[::-1]
    assert len(api.requests) == 3


def test_a_proxy_does_not_stand_between_us_and_this_machine(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(api.url, KEY, attempts=1) as client:
        assert client.job(job_with(api))["state"] == "completed"
