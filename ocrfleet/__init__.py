"""The shared kernel of OCR Fleet: states, errors, tables, queries, the Python SDK and the CLI."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocrfleet.client import (
        ApiError,
        AsyncClient,
        AsyncJobHandle,
        Client,
        JobHandle,
        StoreError,
        UnreachableError,
    )

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "JobHandle",
    "StoreError",
    "UnreachableError",
]


def __getattr__(name: str) -> object:
    """The SDK is loaded when it is asked for: the kernel is imported by processes that have no use for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ocrfleet.client"), name)
