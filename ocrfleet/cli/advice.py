"""What to do about a failure, by its code, for the summary of `run`."""

ADVICE = {
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
    "too_many_pages": "split the document, or raise OCRFLEET_MAX_DOCUMENT_PAGES",
    "file_too_large": "split or compress the file, or raise OCRFLEET_MAX_OBJECT_BYTES",
    "unknown_task": "choose a task that GET /v1/tasks lists",
    "storage_unavailable": "look whether the object store runs and has disk space: ocrfleet doctor",
    "engine_oom": "free memory, or use fewer engine processes: --device cpu:1",
    "inference_timeout": "scale the image down, or raise OCRFLEET_INFERENCE_TIMEOUT",
    "empty_output": "look at the page: there may be nothing to read; if there is, scan it again, larger",
    "deadline_exceeded": "submit it again with a later deadline",
}
OTHER = "run it again; if it fails again, see the log under the job's id"


def advice(code: str) -> str:
    """The next step after a failure with this code."""
    return ADVICE.get(code, OTHER)
