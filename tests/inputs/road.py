"""The road of a file through the worker: its own loader, over an object store in memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from files import FILES
from fleet_builders import claimed_page
from meter import Cost, metered

from ocrfleet.blobs import NullBlobs
from ocrfleet.errors import FleetError
from ocrfleet.s3 import BlobInfo, Fetched
from ocrfleet.settings import Settings
from worker.decode import Found, Loaded, Loader

FEW = 60
"""A document of more pages is read at its beginning, in its middle and at its end."""


class MemoryBlobs(NullBlobs):
    """One object, under every key."""

    def __init__(self) -> None:
        super().__init__(0)
        self.data = b""

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        del max_bytes, etag, version_id
        info = BlobInfo(bucket, key, "1", None, len(self.data))
        return Fetched(self.data, info, hashlib.sha256(self.data).hexdigest())


@dataclass(slots=True)
class End:
    """What became of a file."""

    outcome: str
    """See `told`."""
    pages: int
    cost: Cost
    errors: list[FleetError] = field(default_factory=list[FleetError])


def told(codes: Mapping[int, str]) -> str:
    """`ok`, or the code that all pages have, or what became of which: `ok, 2-3 corrupt_file`."""
    if len(set(codes.values())) == 1:
        return codes[min(codes)]
    parts = ["ok"]
    first = last = 0
    code = ""
    for page, found in [*sorted((page, code) for page, code in codes.items() if code != "ok"), (0, "")]:
        if (page, found) == (last + 1, code):
            last = page
            continue
        if code:
            parts.append(f"{first}-{last} {code}" if first < last else f"{first} {code}")
        first, last, code = page, page, found
    return ", ".join(parts)


class Road:
    """Leads files through one loader, as pages are claimed whose document nobody has counted."""

    def __init__(self, **settings: Any) -> None:
        self._store = MemoryBlobs()
        self._loader = Loader(Settings(engine="null", decode_processes=1, **settings), self._store)
        self._items = 0
        # So that no file pays for the start of the sandbox.
        self.lead(FILES["gif"][0])

    def lead(self, data: bytes, password: str | None = None) -> End:
        """Read every page of a file; of a long document some."""
        self._items += 1
        self._store.data = data
        options = {"password": password} if password else None
        found, errors = Found(), list[FleetError]()
        with metered() as cost:
            codes = {1: self._load(1, None, options, found, errors)}
            count = found.page_count or 1
            for page in range(2, count + 1) if count <= FEW else (count // 2, count):
                codes[page] = self._load(page, count, options, Found(), errors)
        return End(told(codes), count, cost, errors)

    def _load(
        self,
        number: int,
        count: int | None,
        options: dict[str, Any] | None,
        found: Found,
        errors: list[FleetError],
    ) -> str:
        page = claimed_page(item_id=self._items, number=number, page_count=count, item_options=options)
        try:
            loaded = self._loader.load(page, found, lambda _: None)
        except FleetError as error:
            errors.append(error)
            return error.code
        assert isinstance(loaded, Loaded)
        height, width, planes = loaded.pixels.shape
        assert (loaded.pixels.dtype, planes) == (np.uint8, 3)
        assert min(height, width) >= 4
        return "ok"

    def close(self) -> None:
        self._loader.close()
