"""Standard Webhooks: signing what is sent, and verifying what came (`from ocrfleet.webhooks import verify`).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

PREFIX = "whsec_"
TOLERANCE = 300.0
"""Seconds that the clocks of sender and receiver may differ, and a message may take."""
_SECRET_BYTES = 32


class Event(TypedDict):
    """A message; `timestamp` is when it happened (ISO 8601), not when it was sent."""

    type: str
    timestamp: str
    data: dict[str, Any]


class VerificationError(ValueError):
    """The message is not from who has the secret, or it is too old: answer 400 and do nothing."""


def new_secret() -> str:
    """A secret, `whsec_` and the base64 of its bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secrets_: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one sending (`timestamp` in Unix seconds), with a signature by each secret."""
    signatures = (f"v1,{_signature(secret, message_id, timestamp, body)}" for secret in secrets_)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Event:
    """The message, if one of the secrets has signed it and it is fresh; else VerificationError.

    `body` is what came, byte for byte: parsed and written again it has another signature. The names of the headers
    may be in any case. A message may come more than once: `webhook-id` tells.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, sent = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not (sent.isascii() and sent.isdecimal() and len(sent) < 16):
        raise VerificationError("the headers webhook-id and webhook-timestamp are missing or malformed")
    age = (time.time() if now is None else now) - int(sent)
    if abs(age) > tolerance:
        raise VerificationError(f"the message was sent {age:.0f} s ago, {tolerance:g} are allowed")
    known = [secret] if isinstance(secret, str) else secret
    wanted = [_signature(one, message_id, int(sent), body).encode() for one in known]
    found = [
        signature.encode()
        for version, _, signature in (
            part.partition(",") for part in given.get("webhook-signature", "").split()
        )
        if version == "v1"
    ]
    # All are compared, so that the time tells nothing of which one was close.
    if not sum(hmac.compare_digest(one, other) for one in wanted for other in found):
        raise VerificationError("no signature is by a known secret")
    try:
        return json.loads(body)
    except ValueError as exc:
        raise VerificationError("the body is not JSON") from exc


def _signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as exc:
        msg = f"a secret is {PREFIX} and base64"
        raise ValueError(msg) from exc
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
