"""What an API with dead letters and redrives answers."""

from typing import Any

LETTER: dict[str, Any] = {
    "id": "17", "state": "dead", "created_at": "2026-11-20T09:14:03.123456Z", "job_id": "j-1", "item_id": "4",
    "custom_id": "inv-18", "bucket": "scans", "key": "b.png", "page": 2, "code": "output_truncated", "retryable": True,
    "detail": "The output reached the limit of\n8192 tokens. " + "x" * 80, "attempt": 2, "worker": "ocr@gpu-7",
    "device": "cuda:0", "model": "Hunyuan", "revision": "abc", "discarded_at": None, "redrive_id": None,
}  # fmt: skip
ITEM = LETTER | {"id": "18", "page": None, "worker": None, "code": "encrypted_pdf", "detail": "Locked."}
ATTEMPT: dict[str, Any] = {
    "attempt": 1, "fence": 1, "code": "output_truncated", "detail": "8192 tokens", "parameters":
    {"task": "text", "temperature": 0.0, "max_pixels": None}, "raw_tail": "so it goes\n\x1b[31mon and on", "worker":
    "ocr@gpu-7", "device": "cuda:0", "model": "Hunyuan", "revision": "abc", "exclusive": False, "timings_ms":
    {"queue": 12, "infer": 41200}, "started_at": "2026-11-20T09:13:22Z", "ended_at": "2026-11-20T09:14:03.200000Z",
    "thumbnail": None,
}  # fmt: skip
DETAIL = LETTER | {
    "error": {"code": "output_truncated", "retryable": True, "detail": "8192 tokens", "limit": 8192},
    "thumbnail": "/v1/dead-letters/17/thumbnail",
    "attempts": [ATTEMPT, ATTEMPT | {"attempt": 2, "exclusive": True, "started_at": None, "raw_tail": None}],
}
PROGRESS = {"ready": 200, "running": 12, "succeeded": 98, "dead": 2, "canceled": 0}
REDRIVE: dict[str, Any] = {
    "id": "5", "created_at": "2026-11-20T10:00:00Z", "finished_at": None, "filter": {"job_id": "j-1", "codes": ["a", "b"]},
    "override": {"options": {"password": "********"}}, "max_per_second": 50.0, "reason": "mended", "pages": 5000,
    "progress": PROGRESS, "remaining": 312, "left_out": {"canceled": 4, "manifest_invalid": 1},
}  # fmt: skip
PLAN = {
    "pages": 312, "by_code": {"output_truncated": 300, "empty_output": 12}, "jobs": 3, "by_job": {"j-1": 310, "j-2": 1},
    "left_out": {"failed": 2}, "seconds": 6.24,
}  # fmt: skip
LIST = {"data": [LETTER, ITEM], "next_page_token": None}
