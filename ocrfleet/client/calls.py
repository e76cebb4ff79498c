"""How one description of a call becomes a method of the synchronous and of the asynchronous client."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import update_wrapper, wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from ocrfleet.client.steps import Steps, Stream

P = ParamSpec("P")
T = TypeVar("T")


class Sync(ABC):
    """Carries steps out on the caller's thread."""

    @abstractmethod
    def carry_out(self, steps: Steps[T]) -> T:
        """What the steps return."""

    @abstractmethod
    def go_through(self, steps: Stream[T]) -> Iterator[T]:
        """What the steps emit, as the caller goes on."""


class Async(ABC):
    """Carries steps out on the caller's event loop."""

    @abstractmethod
    async def carry_out(self, steps: Steps[T]) -> T:
        """What the steps return."""

    @abstractmethod
    def go_through(self, steps: Stream[T]) -> AsyncIterator[T]:
        """What the steps emit, as the caller goes on."""


class call(Generic[P, T]):  # noqa: N801 (a decorator)
    """A method that answers once: of a `Sync` it returns the answer, of an `Async` it is awaited."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        """The call as a part of another: `job = yield from JobCalls.job.steps(client, job_id)`."""
        update_wrapper(self, steps)

        @wraps(steps)
        def method(client: Sync | Async, *args: P.args, **kwargs: P.kwargs) -> object:
            return client.carry_out(steps(client, *args, **kwargs))

        self._method = method

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: Sync, owner: type[object]) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Async, owner: type[object]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Sync | Async | None, owner: type[object]) -> object:
        return self if instance is None else MethodType(self._method, instance)

    def __call__(self, client: Sync, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`Client.cancel_job(client, job_id)` is `client.cancel_job(job_id)`."""
        return client.carry_out(self.steps(client, *args, **kwargs))


class stream(Generic[P, T]):  # noqa: N801 (a decorator)
    """A method that is iterated: of a `Sync` with `for`, of an `Async` with `async for`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        self.steps = steps
        update_wrapper(self, steps)

        @wraps(steps)
        def method(client: Sync | Async, *args: P.args, **kwargs: P.kwargs) -> object:
            return client.go_through(steps(client, *args, **kwargs))

        self._method = method

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: Sync, owner: type[object]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Async, owner: type[object]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Sync | Async | None, owner: type[object]) -> object:
        return self if instance is None else MethodType(self._method, instance)

    def __call__(self, client: Sync, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """`Client.results(client, job_id)` is `client.results(job_id)`."""
        return client.go_through(self.steps(client, *args, **kwargs))
