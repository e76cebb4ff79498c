"""What a tenant may read and write in buckets: its rights, and what our own bucket keeps for the fleet and for others."""

import re
from dataclasses import dataclass, field
from uuid import UUID

from ocrfleet.advice import ANOTHER_RIGHT
from ocrfleet.errors import InputAccessDenied

MAX_KEY = 1024
"""Bytes of a key."""
OUR_PREFIXES = ("batches/", "exporting/", "exports/", "files/", "interactive/", "thumbnails/", "uploads/")
"""Of our own bucket: what is there came from us, or from a caller for a job of his own."""
MAX_RIGHTS = 1000
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_ODD = re.compile(r"\\|//|^/|(?:^|/)\.{1,2}(?:/|$)")


def readings(key: str) -> tuple[str, ...]:
    """Under which names stores may know a key, or a prefix: itself first, and cleaned as a path is (SeaweedFS, MinIO)."""
    if not _ODD.search(key):
        return (key,)
    return key, _cleaned(key), _cleaned(key.replace("\\", "/"))


def _cleaned(key: str) -> str:
    parts: list[str] = []
    for part in key.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) + ("/" if parts and key.endswith(("/", "/.", "/..")) else "")


def impossible(key: str) -> str | None:
    """Why no store holds an object of this key, if none does."""
    if not {".", ".."}.isdisjoint(key.split("/")):
        return f"a key must have no part `.` or `..`, as {key} has"
    if (size := len(key.encode())) > MAX_KEY:
        return f"a key may have {MAX_KEY} bytes, not {size}, as {key} has"
    return None


def misnamed(right: str) -> str | None:
    """What is wrong with a right as it is written, if anything."""
    bucket, _, prefix = right.partition("/")
    if not _BUCKET.fullmatch(bucket):
        return f"a right is `bucket` or `bucket/prefix`, not {right!r}"
    if "\0" in prefix or len(prefix.encode()) > MAX_KEY or len(readings(prefix)) > 1:
        return f"the prefix of a right has no empty part, no `.` or `..` and no backslash, as {right!r} has"
    return None


def is_ours(bucket: str, key: str, own: str) -> bool:
    """Whether the key, or a prefix, lies where the bucket `own`, ours, keeps what came from us."""
    return bucket == own and any(one.startswith(OUR_PREFIXES) for one in readings(key))


@dataclass(frozen=True, slots=True)
class Rights:
    """Of a tenant, and for what is written of one of its jobs; our own bucket is `own`.

    Of OUR_PREFIXES there only what is the tenant's own is read, and only its uploads and the job's exports are written,
    whatever `buckets` says. Everything else may be read and written that `buckets` names.
    """

    own: str
    tenant_id: UUID | None
    buckets: tuple[str, ...] | None = None
    """`bucket` or `bucket/prefix`, whose prefix any key may have that begins so; None: every bucket."""
    job_id: UUID | None = None
    _begin: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """How what the tenant has a right to is named: asked of every line of a manifest."""

    def __post_init__(self) -> None:
        named = ("",) if self.buckets is None else tuple(map(_right, self.buckets))
        object.__setattr__(self, "_begin", named)

    def may_read(self, bucket: str, key: str) -> bool:
        return all(self._may_read(bucket, one) for one in readings(key))

    def may_write(self, bucket: str, key: str) -> bool:
        return all(self._may_write(bucket, one) for one in readings(key))

    def _may_read(self, bucket: str, key: str) -> bool:
        if bucket != self.own or not key.startswith(OUR_PREFIXES):
            return f"{bucket}/{key}".startswith(self._begin)
        if key.startswith("interactive/") and key.endswith(f"/{self.job_id}"):
            # The image that came with the request of a job with a single page.
            return True
        return key.startswith(tuple(f"{prefix}{self.tenant_id}/" for prefix in OUR_PREFIXES))

    def _may_write(self, bucket: str, key: str) -> bool:
        if bucket != self.own or not key.startswith(OUR_PREFIXES):
            return f"{bucket}/{key}".startswith(self._begin)
        return key.startswith((f"uploads/{self.tenant_id}/", f"exports/{self.job_id}/"))

    def check_readable(self, bucket: str, key: str) -> None:
        """Raise InputAccessDenied for an object that is another's."""
        if not self.may_read(bucket, key):
            raise self.refusal(bucket, key)

    def check_writable(self, bucket: str, key: str) -> None:
        """Raise InputAccessDenied for a place that is another's."""
        if not self.may_write(bucket, key):
            raise self.refusal(bucket, key)

    def check_prefix(self, bucket: str, prefix: str) -> None:
        """Raise InputAccessDenied where no key that begins so is covered by a right.

        What is private in our own bucket is left out, or refused, key by key.
        """
        if bucket == self.own and any(one.startswith(OUR_PREFIXES) for one in readings(prefix)):
            return
        names = [f"{bucket}/{one}" for one in readings(prefix)]
        if not any(
            all(name.startswith(right) or right.startswith(name) for name in names) for right in self._begin
        ):
            raise self.refusal(bucket, prefix)

    def refusal(self, bucket: str, key: str) -> InputAccessDenied:
        """Why the tenant may not."""
        if is_ours(bucket, key, self.own):
            return InputAccessDenied(f"{bucket}/{key} is kept for the fleet itself.")
        detail = f"{bucket}/{key} is not in the buckets that the tenant has a right to."
        return InputAccessDenied(detail, next_step=ANOTHER_RIGHT)


def _right(named: str) -> str:
    """How the names of all that it covers begin."""
    return named if "/" in named else f"{named}/"
