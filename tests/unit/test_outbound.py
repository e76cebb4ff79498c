"""Requests to where callers say: the name is looked up once, and what was checked is what is connected to."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receiver import CLOSE, HANG, Names, Receiver

from ocrfleet.outbound import Answer, Outbound, UrlRefused
from ocrfleet.settings import Settings

PUBLIC, INSIDE = "93.184.216.34", "10.0.0.7"
LOOPBACK = "127.0.0.0/8"


def outbound(names: Names | None = None, **settings: Any) -> Outbound:
    defaults = {"webhook_http": True, "webhook_networks": LOOPBACK, "webhook_timeout": 10.0}
    return Outbound(Settings.model_validate(defaults | settings), names)


def post(sender: Outbound, url: str, *, excerpt: int = 0) -> Answer:
    return asyncio.run(sender.post(url, {"content-type": "application/json"}, b'{"a":1}', excerpt=excerpt))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_the_receiver_gets_the_body_and_the_name_that_was_asked_for(receiver: Receiver) -> None:
    names = Names(hooks_example=[["127.0.0.1"]])
    answer = post(outbound(names), receiver.url("hooks.example"))
    assert (answer.status, answer.is_success, answer.error, answer.fault) == (204, True, None, None)
    (request,) = receiver.received
    assert (request.path, request.body) == ("/hook?x=1", b'{"a":1}')
    assert request.headers["host"] == f"hooks.example:{receiver.port}"
    assert names.asked == ["hooks.example"], "looked up once: what is checked is what is connected to"


@pytest.mark.parametrize(
    "answers", [[[INSIDE]], [[PUBLIC, INSIDE]], [["::1"]], [["::ffff:127.0.0.1"]], [[]], []]
)
def test_a_name_with_an_address_inside_is_refused(receiver: Receiver, answers: list[list[str]]) -> None:
    sender = outbound(Names(hooks_example=answers), webhook_networks="")
    answer = post(sender, receiver.url("hooks.example"))
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("refused: the host hooks.example is not ")
    assert INSIDE not in answer.error, "what names inside stand for is nobody's business"
    assert receiver.received == []


def test_a_name_that_moves_inside_after_it_was_checked_is_refused(receiver: Receiver) -> None:
    """DNS rebinding: public when the webhook is made, and for each check before a connection, loopback after it."""
    names = Names(rebinds_example=[[PUBLIC], ["127.0.0.1"]])
    sender = outbound(names, webhook_networks="")
    url = receiver.url("rebinds.example")
    asyncio.run(sender.check(url))
    answer = post(sender, url)
    assert (answer.status, names.asked) == (None, ["rebinds.example"] * 2)
    assert "not at a public address" in (answer.error or "")
    assert receiver.received == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_the_systems_resolver_leads_to_the_same_filter(receiver: Receiver, host: str) -> None:
    answer = post(outbound(webhook_networks=""), receiver.url(host))
    assert (answer.status, receiver.received) == (None, [])
    assert "refused" in (answer.error or "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example/", "https://"),
        ("ftp://hooks.example/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("hooks.example", "https://"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://user:secret@hooks.example/", "user name"),
        ("https://hooks.example@127.0.0.1/", "user name"),
        ("https://hooks.example:8080/", "8080"),
        ("https://hooks.example:99999/", "no port 99999"),
        ("https://hooks.example:0/", "no port 0"),
        ("https://hooks.example/\n", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://nowhere.example/", "not found"),
        (f"https://{INSIDE}/", "not found"),
    ],
)
def test_other_urls_are_refused(url: str, said: str) -> None:
    sender = outbound(Names(hooks_example=[[PUBLIC]]), webhook_http=False, webhook_ports="443,8443")
    with pytest.raises(UrlRefused, match=said):
        asyncio.run(sender.check(url))
    assert said in (post(sender, url).error or "")


@pytest.mark.parametrize(
    "url", ["https://hooks.example/", "https://hooks.example:8443/a?b", "HTTPS://HOOKS.example:443"]
)
def test_good_ones_are_not(url: str) -> None:
    asyncio.run(
        outbound(Names(hooks_example=[[PUBLIC, "2606:4700::1111"]]), webhook_ports="443,8443").check(url)
    )


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as other, Receiver(302, Location=other.url()) as receiver:
        answer = post(outbound(), receiver.url())
        assert (answer.status, answer.fault) == (302, "the receiver answered 302")
        assert (len(receiver.received), other.received) == (1, [])


@pytest.mark.parametrize("mood", [HANG, CLOSE])
def test_a_receiver_that_does_not_answer_is_an_error(mood: str) -> None:
    with Receiver(mood) as receiver:
        answer = post(outbound(webhook_timeout=1.0 if mood == HANG else 10.0), receiver.url())
        assert (answer.status, answer.is_success) == (None, False)
        assert answer.error
        assert ("no answer within 1 s" in answer.error) == (mood == HANG)


def test_nothing_that_listens_is_an_error() -> None:
    with Receiver() as receiver:
        url = receiver.url()
    assert post(outbound(), url).status is None


def test_a_second_address_is_tried() -> None:
    with Receiver() as receiver:
        # Nothing listens at the first one.
        names = Names(hooks_example=[["127.0.0.9", "127.0.0.1"]])
        assert post(outbound(names), receiver.url("hooks.example")).status == 204


def test_the_beginning_of_an_answer_and_its_retry_after_are_kept() -> None:
    with Receiver(503, Retry_After="120") as receiver:
        answer = post(outbound(), receiver.url(), excerpt=5)
        assert (answer.status, answer.body, answer.retry_after) == (503, "so it", 120)
        assert post(outbound(), receiver.url()).body == ""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of hooks.example, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def test_tls_is_for_the_name_though_the_connection_is_to_an_address(certificate: Path) -> None:
    names = Names(hooks_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    with Receiver(certificate=certificate) as receiver:
        trusting = outbound(names, webhook_ca_file=str(certificate))
        assert post(trusting, receiver.url("hooks.example")).status == 204
        assert "certificate" in (post(trusting, receiver.url("other.example")).error or "").lower()
        assert "certificate" in (post(outbound(names), receiver.url("hooks.example")).error or "").lower()
        assert len(receiver.received) == 1
