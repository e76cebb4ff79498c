"""Signatures of webhooks: as the Standard Webhooks specification has them, and refused where anything is wrong."""

import base64

import pytest

from ocrfleet.webhooks import VerificationError, new_secret, sign, verify

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
MESSAGE, SENT = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def headers(**changed: str) -> dict[str, str]:
    given = {"Webhook-Id": MESSAGE, "webhook-timestamp": str(SENT), "WEBHOOK-SIGNATURE": SIGNATURE}
    return given | changed


def test_a_signature_is_the_specifications() -> None:
    assert sign([SECRET], MESSAGE, SENT, BODY) == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(SENT),
        "webhook-signature": SIGNATURE,
    }
    assert verify(BODY, headers(), SECRET, now=SENT) == {"test": 2432232314}


def test_one_of_several_signatures_and_secrets_is_enough() -> None:
    old, new = new_secret(), new_secret()
    signed = sign([new, old], MESSAGE, SENT, BODY)
    assert len(signed["webhook-signature"].split()) == 2
    for known in (old, new, [SECRET, old]):
        assert verify(BODY, signed, known, now=SENT)
    signed["webhook-signature"] = f"v1a,abc v2,{SIGNATURE} x " + signed["webhook-signature"]
    assert verify(BODY, signed, old, now=SENT)


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, BODY + b" "),
        ({"Webhook-Id": "msg_other"}, BODY),
        ({"webhook-timestamp": str(SENT + 1)}, BODY),
        ({"webhook-timestamp": f"{SENT}.0"}, BODY),
        ({"webhook-timestamp": "²"}, BODY),
        ({"webhook-timestamp": "9" * 400}, BODY),
        ({"Webhook-Id": ""}, BODY),
        ({"WEBHOOK-SIGNATURE": ""}, BODY),
        ({"WEBHOOK-SIGNATURE": SIGNATURE.replace("v1,", "v2,")}, BODY),
        ({"WEBHOOK-SIGNATURE": "v1,é"}, BODY),
    ],
)
def test_what_was_changed_is_refused(changed: dict[str, str], body: bytes) -> None:
    with pytest.raises(VerificationError):
        verify(body, headers(**changed), SECRET, now=SENT)


@pytest.mark.parametrize("secret", [new_secret(), []])
def test_another_secret_is_refused(secret: str | list[str]) -> None:
    with pytest.raises(VerificationError):
        verify(BODY, headers(), secret, now=SENT)


@pytest.mark.parametrize("late", [301, -301])
def test_what_is_old_or_from_the_future_is_refused(late: int) -> None:
    with pytest.raises(VerificationError, match="300"):
        verify(BODY, headers(), SECRET, now=SENT + late)
    assert verify(BODY, headers(), SECRET, now=SENT + late, tolerance=302)


def test_a_secret_has_as_many_bytes_as_the_specification_asks_for() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    assert new_secret() != secret
    with pytest.raises(ValueError, match="whsec_"):
        sign(["whsec_?"], MESSAGE, SENT, BODY)
