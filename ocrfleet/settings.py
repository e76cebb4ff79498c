"""All settings, read from the environment (`OCRFLEET_…`) here and nowhere else, once, at the edge."""

import os
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _listed(value: object) -> object:
    """A list as the environment has it, with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Listed = BeforeValidator(_listed)
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, _Listed]
Numbers = Annotated[tuple[int, ...], NoDecode, _Listed]
Delays = Annotated[tuple[float, ...], NoDecode, _Listed]


class Settings(BaseSettings):
    """One flat list; each process reads what it needs. Sizes are bytes, times seconds, unless said."""

    model_config = SettingsConfigDict(env_prefix="OCRFLEET_", extra="ignore", protected_namespaces=())

    # Servers
    database_url: str = "postgresql://ocrfleet:ocrfleet@127.0.0.1:5432/ocrfleet"
    broker_url: str = "redis://127.0.0.1:6379/0"
    store_url: str = "http://127.0.0.1:9000"
    """The S3 endpoint; `null://?objects=N` is a store without objects, for measurements."""
    store_access_key: str = "ocrfleet"
    store_secret_key: SecretStr = SecretStr("")
    store_region: str = "us-east-1"
    store_timeout: float = 15.0
    """Seconds of silence after which a request to the store has failed."""
    bucket: str = "ocr"
    """Our own bucket: uploads, `interactive/`, exports."""
    database_pool: int = 8

    # API
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    sync_wait: float = 60.0
    """How long POST /v1/ocr waits for its page."""
    sync_max_bytes: int = 20 * 1024 * 1024
    interactive_window: int = 8
    """Unfinished interactive pages per live worker; above it the API answers 503 no_capacity."""
    interactive_share: float = Field(default=0.5, gt=0, le=1)
    """How much of all of them one tenant may have, where there are others."""
    async_wait: float = Field(default=600.0, gt=0)
    """After so long the page of a POST /v1/ocr that nobody waits for is canceled."""
    max_inline_objects: int = 1000
    max_prompt_chars: int = 8000
    max_schema_bytes: int = 64 * 1024
    """Of an `output_schema`, as compact JSON."""
    max_request_bytes: int = 8 * 1024 * 1024
    """Of any request body but that of POST /v1/ocr."""
    store_public_url: str = ""
    """Under which callers reach the store, for presigned uploads; empty: `store_url`."""
    upload_part_bytes: int = Field(default=64 * 1024 * 1024, ge=5 * 1024 * 1024)
    """Uploads above this size go in parts of it."""
    upload_expiry: float = 86400.0
    """Seconds after which an upload that nobody has completed is removed."""
    price_per_1000_pages: float = Field(default=0.0, ge=0)
    """What GET /v1/usage counts for pages that were read, in whatever currency; and for their tokens:"""
    price_per_million_tokens: float = Field(default=0.0, ge=0)
    followers: int = Field(default=200, ge=1)
    """Streams of results that one API process follows at a time."""
    followers_of_tenant: int = Field(default=50, ge=1)
    """How many of them one tenant may have."""
    validate_max_items: int = 100_000
    """Inputs that `validate_only` looks at; for 5 s at most."""

    # Input limits
    max_object_bytes: int = 200 * 1024 * 1024
    max_page_pixels: int = 100_000_000
    max_document_pages: int = 10_000
    min_image_side: int = 4
    render_timeout: float = 30.0
    render_dpi: int = 200
    render_max_pixels: int = 8_000_000
    """A rendered PDF page is scaled down to this many pixels."""
    sandbox_memory: int = 4 * 1024**3
    max_archive_entries: int = 10_000
    """Of a ZIP or TAR that is given as an input, folders and links counted."""
    max_archive_bytes: int = 4 * 1024**3
    """Of all its members, inflated."""
    max_archive_ratio: int = 200
    """Of those bytes to its own, above 64 MB."""

    # Producer
    expand_chunk: int = 4000
    """Lines or listed keys written in one transaction."""
    poll_interval: float = 0.25
    sweep_interval: float = 0.5
    leader_timeout: float = 6.0
    heartbeat_timeout: float = 8.0
    max_batch_pages: int = 128
    batch_seconds: float = 5.0
    rule_job_seconds: float = Field(default=60.0, gt=0)
    """How long a job of a bucket rule takes further objects."""
    rule_job_items: int = Field(default=1000, ge=1)
    """How many it takes at most."""
    batch_image_days: float = Field(default=30.0, gt=0)
    """After so many days from a batch's end the images that its lines held are removed; a redrive needs them."""
    bucket_event_days: float = Field(default=14.0, gt=0)
    """After so many days events that were handled, or are in quarantine, are forgotten."""

    # Webhooks
    webhook_http: bool = False
    """Receivers may be http:// too: for development."""
    webhook_networks: Networks = ()
    """Private networks in which receivers may be, as `10.1.0.0/16,fd12::/48`."""
    webhook_ports: Numbers = ()
    """Ports that receivers may have, as `443,8443`; empty: any."""
    webhook_ca_file: str = ""
    """Certificates that are trusted besides the public ones, a PEM file."""
    webhook_timeout: float = Field(default=10.0, gt=0)
    webhook_retries: Delays = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    """How long after each failure a message is sent again; after the last it has failed."""
    webhook_in_flight: int = Field(default=64, ge=2)
    """Messages that a producer sends at a time."""
    webhook_days: float = Field(default=30.0, gt=0)
    """After so many days a finished delivery is forgotten."""

    # Worker
    engine: str = "rapidocr"
    device: str = Field(default_factory=lambda: f"cpu:{len(os.sched_getaffinity(0))}")
    """`cpu:N` (N engine processes) or a CUDA device."""
    worker_name: str = "ocr"
    slots: int = Field(default=8, ge=2)
    """Batches a worker holds at a time (its Celery thread pool); one of them is kept free for interactive work."""
    heartbeat_interval: float = 2.0
    inference_timeout: float = 120.0
    fetch_threads: int = 8
    decode_processes: int = 2
    drain_timeout: float = 30.0
    engine_process_pages: int = 1000
    """Engine `rapidocr`: pages after which a process makes way for a fresh one, with whatever it leaked."""
    result_cache: bool = True
    """A page that asks exactly what an earlier page of its tenant asked gets that one's result."""
    result_cache_days: float = Field(default=30.0, gt=0)
    """After so many days a result is computed again."""
    document_cache_bytes: int = 256 * 1024 * 1024
    """Documents kept on a worker's disk after their last page, beside those in use."""
    model: str = "tencent/HunyuanOCR"
    """Engines `vllm` and `transformers`: a name on the hub or a folder; engine `openai`: the served name."""
    model_revision: str = ""
    """A commit of the model's repository; a name on the hub needs one, since its branches move."""
    model_dtype: str = "auto"
    max_pixels: int = 3_400_000
    """Larger pages are scaled down to this before a generative engine sees them."""
    self_test: bool = True
    """Engine `vllm`: prove at every start that pages read together get their own texts."""
    allow_unproven_versions: bool = False
    """Engine `vllm`: start on versions known to be bad, so that the self-test itself can be tested on them."""
    gpu_memory_utilization: float = 0.9
    max_sequences: int = 64
    """Engine `vllm`: pages it may run at once."""
    max_model_len: int = 16384
    """Tokens of prompt, image and output together."""
    load_format: str = "auto"
    """Engine `vllm`: `dummy` gives random weights, for measurements."""
    fixed_output_tokens: int = 0
    """Engine `vllm`: every page writes exactly so many, whatever they say; for measurements with random weights."""
    speculative_model: str = ""
    """Engine `vllm`: folder or name of a DFlash draft model."""
    speculative_tokens: int = 15
    openai_url: str = "http://127.0.0.1:8001/v1"
    openai_api_key: SecretStr = SecretStr("")
    openai_in_flight: int = 64
    """Engine `openai`: requests at once."""
    null_latency: float = 0.0
    """Engine `null`: seconds a page takes."""
    null_in_flight: int = 256
    null_reads_pixels: bool = True
    """Engine `null`: False skips fetch and decode, to measure the control plane alone."""
    null_poison: str = ""
    """Engine `null`: the page with this text ends the process that reads it."""

    # Tests
    failpoints: str = ""
    """Where processes end or pause on purpose; see ocrfleet/failpoints.py."""

    # Telemetry
    log_level: str = "info"
    log_json: bool = True

    # One machine
    state: Path = Field(default_factory=lambda: state_home() / "ocrfleet")
    """Where the embedded servers keep their data and the CLI its keys."""
    url: str = ""
    """The API the CLI talks to; empty means the one of the state folder."""
    api_key: SecretStr = SecretStr("")


def state_home() -> Path:
    """`$XDG_STATE_HOME`, or its default."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that we start: ours, and `extra`."""
    return {**os.environ, **extra}


def set_environment(**values: str) -> None:
    """For libraries that take settings from nowhere else, and for the processes that they start."""
    os.environ.update(values)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, parsed once."""
    return Settings()
