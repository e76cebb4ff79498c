"""Batches whose lines hold their images themselves."""

import base64
from uuid import uuid4

import orjson
from fleet_builders import tenant_id

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import batches, files
from ocrfleet.store.batches import NewBatch
from ocrfleet.store.files import NewFile

SETTINGS = Settings(engine="null")
IMAGE = "data:image/png;base64," + base64.b64encode(b"pixels").decode()


def line(custom_id: str) -> bytes:
    parts = [{"type": "image_url", "image_url": {"url": IMAGE}}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    asked = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(asked, option=orjson.OPT_APPEND_NEWLINE)


def submit(database: Database, store: Blobs, content: bytes) -> str:
    """A batch whose input file nobody has read yet."""
    batch_id, file_id = f"batch_{uuid4().hex}", f"file-{uuid4().hex}"
    store.put("ocr", f"files/{file_id}", content, "application/jsonl")
    with database.transaction() as session:
        tenant = tenant_id(session)
        new = NewFile(file_id, tenant, "batch", "r.jsonl", "ocr", f"files/{file_id}", len(content))
        files.create(session, new)
        asked = NewBatch(batch_id, tenant, file_id, "/v1/chat/completions", "24h", 86400.0, {})
        batches.create(session, asked, "a-key")
    return batch_id
