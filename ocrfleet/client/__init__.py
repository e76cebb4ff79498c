"""The Python SDK: a client of the HTTP API, synchronous or for an event loop, that repeats what is safe to repeat.

from ocrfleet import Client

with Client("http://127.0.0.1:8000", key) as client:
    job = client.submit("s3://scans/2026/")
    for name, page, text in job.texts():
        print(name, page, text)
"""

from ocrfleet.client.clients import AsyncClient, Client
from ocrfleet.client.errors import ApiError, StoreError, UnreachableError
from ocrfleet.client.export_handles import AsyncExportHandle, ExportHandle
from ocrfleet.client.handles import AsyncJobHandle, JobHandle, Text

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncExportHandle",
    "AsyncJobHandle",
    "Client",
    "ExportHandle",
    "JobHandle",
    "StoreError",
    "Text",
    "UnreachableError",
]
