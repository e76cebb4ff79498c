"""What to do about an error, by its code: for pages that failed, and for calls that were refused."""

PAGES = {
    "empty_file": "the file has no content; scan or copy it again",
    "corrupt_file": "the file is damaged; copy or export it again",
    "unsupported_media_type": "convert it to PDF, TIFF, PNG, JPEG or another image type",
    "image_too_small": "scan it again with more pixels",
    "decompression_bomb": "export the file again; this one would grow far beyond its size",
    "too_many_pixels": "scale the image down, or raise OCRFLEET_MAX_PAGE_PIXELS",
    "render_timeout": "print the PDF to a new PDF or to images, or raise OCRFLEET_RENDER_TIMEOUT",
    "poison_page": "this page ends the engine; send it to the developers",
    "input_not_found": "the object is gone; run it again",
    "input_access_denied": "give the fleet the right to read it",
    "input_changed": "the file changed during the run; run it again",
    "encrypted_pdf": "save the PDF without its password, then run it again",
    "encrypted_archive": "pack the archive again without a password",
    "too_many_pages": "split the document, or raise OCRFLEET_MAX_DOCUMENT_PAGES",
    "too_many_entries": "pack the files into several archives",
    "file_too_large": "split or compress the file, or raise OCRFLEET_MAX_OBJECT_BYTES",
    "manifest_invalid": "mend the line of the manifest, and submit it again",
    "unknown_task": "choose a task that GET /v1/tasks lists",
    "prompt_too_long": "shorten the prompt, or raise OCRFLEET_MAX_PROMPT_CHARS",
    "storage_unavailable": "look whether the object store runs and has disk space: ocrfleet doctor",
    "engine_oom": "free memory, or use fewer engine processes: --device cpu:1",
    "inference_timeout": "scale the image down, or raise OCRFLEET_INFERENCE_TIMEOUT",
    "output_truncated": "run it again with more tokens, or fewer pixels",
    "output_invalid": "look whether the schema asks for what the page has",
    "output_exists": "remove the result that is there, or submit with on_existing: overwrite",
    "empty_output": "look at the page: there may be nothing to read; if there is, scan it again, larger",
    "deadline_exceeded": "submit it again with a later deadline",
}
OTHER = "run it again; if it fails again, see the log under the job's id"

CALLS = {
    "unauthenticated": "name a key that is valid with OCRFLEET_API_KEY or `Authorization: Bearer ocrk_…`;"
    " `ocrfleet keys create` makes one, `ocrfleet keys ls` shows which have expired or are revoked",
    "forbidden": "use a key that has the scope; `ocrfleet keys create --scope …` makes one",
    "not_found": "look whether the id is right and of this key's tenant: `ocrfleet jobs ls` or GET /v1/jobs lists your jobs",
    "unknown_task": "choose a task that is available: `ocrfleet tasks` or GET /v1/tasks lists them; or start a worker that does it",
    "validation_failed": "mend what `errors` points at; /docs of the API describes every member",
    "manifest_invalid": 'mend the line that is named; a line is {"bucket":…,"key":…}',
    "input_not_found": "look whether bucket and key are spelt right, and whether the fleet's store is the one that has them",
    "input_access_denied": "give the fleet's access key the right to read the bucket",
    "prompt_too_long": "shorten the prompt, or raise OCRFLEET_MAX_PROMPT_CHARS",
    "file_too_large": "split or compress it; of many objects make a manifest; or have the limit raised that is named",
    "unsupported_media_type": PAGES["unsupported_media_type"],
    "upload_incomplete": "send the bytes that are missing, then complete the upload again",
    "rate_limited": "ask again after Retry-After; GET /v1/quota shows the limits",
    "no_capacity": "ask again after Retry-After, submit it as a job, or start more workers: ocrfleet workers start",
    "model_loading": "ask again in a minute; `ocrfleet workers ls` shows when a worker is ready",
    "storage_unavailable": PAGES["storage_unavailable"],
    "inference_timeout": "submit it as a job, or send a smaller image",
    "job_state_conflict": "look at what is there now (`ocrfleet jobs show ID`, `ocrfleet dlq ls`) and decide again",
    "idempotency_mismatch": "use a new Idempotency-Key for another request",
    "idempotency_in_flight": "ask again in a second: the first request is still being answered",
    "state_in_use": "stop the other process, or name another folder with OCRFLEET_STATE",
    "engine_unfit": "run `ocrfleet doctor`",
    "start_failed": "run `ocrfleet doctor`",
    "internal": "try it again; if it fails again, look into the API's log under the request id",
}
ANOTHER_KEY = (
    "ask who runs the fleet for a new key: `ocrfleet keys create` or POST /v1/api-keys makes one;"
    " name it with OCRFLEET_API_KEY or `Authorization: Bearer ocrk_…`"
)
"""For a key that was valid once."""
ANOTHER_RIGHT = (
    "name a bucket of yours, or ask who runs the fleet for the right: `ocrfleet tenants set NAME --bucket …`"
)
"""For a bucket that the tenant has no right to."""


def advice(code: str) -> str:
    """The next step after a page failed with this code."""
    return PAGES.get(code, OTHER)


def next_step(code: str) -> str | None:
    """The next step after a call was refused with this code; None where the refusal says it all."""
    return CALLS.get(code)
