"""What a call does, as steps that know nothing of threads or event loops; a transport carries them out.

A call is written once, as a generator: it yields a step, is sent what came of it, and returns the answer. What a
transport cannot do, since the other side is gone, is raised where the step was yielded, as an httpx.TransportError.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import httpx

S = TypeVar("S")
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One request; sent back is its httpx.Response, read to the end unless it is a `stream` that began well."""

    method: str
    path: str
    """Below the API's address; or an address of its own, which is not shown our key."""
    params: httpx.QueryParams | None = None
    headers: Mapping[str, str] | None = None
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None
    timeout: float | None = None
    """Seconds of silence; None: the client's."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Sent back are the next bytes of a stream; None after the last."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Close:
    """Give a stream's connection back; what is left open when the call ends is closed then."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds, or until the client is closed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Do:
    """Work that blocks, such as reading files; sent back is what it returns. What it raises ends the call."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Together:
    """Several calls, `limit` at a time; sent back are their answers, in order. The first that fails ends all."""

    calls: Sequence["Steps[Any]"]
    limit: int


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """One item for who iterates."""

    item: T


Step: TypeAlias = Send | Read | Close | Pause | Do | Together
Steps: TypeAlias = Generator[Step, Any, T]
"""A call that answers once."""
Stream: TypeAlias = Generator[Step | Emit[T], Any, None]
"""A call whose answer is iterated."""


def go_on(steps: Generator[S, Any, T], came: object) -> S:
    """The next step after what came of the last; StopIteration at the end."""
    return steps.throw(came) if isinstance(came, httpx.TransportError) else steps.send(came)


def mapped(steps: Stream[T], each: Callable[[T], Iterable[U]]) -> Stream[U]:
    """The same steps; in the place of every item those that are made of it."""
    came: object = None
    while True:
        try:
            step = go_on(steps, came)
        except StopIteration:
            return
        came = None
        if isinstance(step, Emit):
            for item in each(step.item):
                yield Emit(item)
            continue
        try:
            came = yield step
        except httpx.TransportError as exc:
            came = exc
