"""All that imports vLLM: its engine as our settings want it, its requests, its errors. Loaded when the engine starts."""

# vLLM is not in the environment in which types are checked, and what has no types there is `Any`.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# ruff: noqa: ANN401

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor
from vllm import envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import (
    RepetitionDetectionParams,
    RequestOutputKind,
    SamplingParams,
    StructuredOutputsParams,
)
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase

from ocrfleet.catalogue import Parameters
from ocrfleet.errors import (
    EngineCrashed,
    EngineOom,
    EngineUnfit,
    FleetError,
    Internal,
    PromptTooLong,
    ValidationFailed,
)
from ocrfleet.settings import Settings
from worker.engines.vllm_feed import Load
from worker.engines.vllm_pages import Geometry
from worker.outputs.generated import Generated

LOOP_TOKENS = 64
"""The longest unit whose repetitions are counted."""
_FIRST_AND_LAST = 1 << 30
"""An interval of tokens at which outputs come; the first token and the end come at once."""
_PROMPTS = 1024
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory", re.IGNORECASE)
_TOO_LONG = re.compile(r"maximum (?:model|context) length")
_LENGTH = re.compile(r"length (\d+)|contains [a-z ]*(\d+) input tokens")


class _Figures(StatLoggerBase):
    """The scheduler's figures, as of the engine's last step."""

    def __init__(self) -> None:
        self.load = Load()
        self.steps = 0

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        self.steps += 1
        if scheduler_stats is not None:
            waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            self.load = Load(scheduler_stats.num_running_reqs, waiting, scheduler_stats.kv_cache_usage)

    def log_engine_initialized(self) -> None:
        pass


class Core:
    """One AsyncLLM, which is one process on one device. Built on any thread that lives as long as it; used on one loop."""

    def __init__(self, settings: Settings) -> None:
        processor = AutoImageProcessor.from_pretrained(
            settings.model, revision=settings.model_revision or None
        )
        self.geometry = geometry_of(processor, settings.max_pixels)
        self.revision = settings.model_revision
        self._fixed = settings.fixed_output_tokens
        self.figures = _Figures()
        arguments = _arguments(settings, self.geometry)
        self._engine = AsyncLLM.from_engine_args(arguments, stat_loggers=[lambda *_: self.figures])
        config = self._engine.vllm_config.model_config
        self.exact = envs.VLLM_BATCH_INVARIANT or (
            current_platform.is_cpu() and str(config.dtype) == "torch.float32"
        )
        """Whether a page's tokens may not depend on what is read beside it."""
        self._max_tokens = config.max_model_len
        self._tokenizer: Any = self._engine.get_tokenizer()
        self._image_token = getattr(config.hf_config, "image_token_id", None)
        self.prompt = lru_cache(_PROMPTS)(self._prompt)

    @property
    def dead(self) -> bool:
        return self._engine.errored

    @property
    def unfinished(self) -> int:
        """Requests in the engine, those that wait there too."""
        return self._engine.get_num_unfinished_requests()

    def sampling(
        self, parameters: Parameters, *, most_repeats: int | None, schema: Mapping[str, Any] | None
    ) -> SamplingParams:
        """What a page asks for."""
        bound = None
        if schema is not None:
            bound = StructuredOutputsParams(json=dict(schema), disable_any_whitespace=True)
        loop, fixed = None, self._fixed
        if most_repeats is not None and not fixed:
            loop = RepetitionDetectionParams(
                max_pattern_size=LOOP_TOKENS, min_pattern_size=1, min_count=most_repeats
            )
        return SamplingParams(
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            top_k=parameters.top_k,
            repetition_penalty=parameters.repetition_penalty,
            max_tokens=fixed or parameters.max_tokens,
            min_tokens=fixed,
            ignore_eos=fixed > 0,
            logprobs=0,
            flat_logprobs=True,
            repetition_detection=loop,
            structured_outputs=bound,
            output_kind=RequestOutputKind.DELTA,
            stream_interval=_FIRST_AND_LAST,
        )

    def generate(
        self,
        request_id: str,
        prompt: Sequence[int],
        image: Image.Image,
        sampling: SamplingParams,
        priority: int,
    ) -> AsyncGenerator[RequestOutput]:
        """An output with the first tokens, and one with the rest. The lower the priority's number, the sooner."""
        given: Any = {"prompt_token_ids": list(prompt), "multi_modal_data": {"image": image}}
        return self._engine.generate(given, sampling, request_id, priority=priority)

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    async def hold(self) -> None:
        """Requests wait until `release`, which begins them together."""
        await self._engine.pause_generation(mode="keep", clear_cache=False)

    async def release(self) -> None:
        await self._engine.resume_generation()

    def shutdown(self) -> None:
        """Blocking; ends the process."""
        self._engine.shutdown()

    def generated(self, outputs: Sequence[RequestOutput]) -> Generated:
        """What the outputs of one request say together; `EngineOom` or `Internal` where the engine gave one up."""
        last = outputs[-1]
        if (error := getattr(last, "error", None)) is not None:
            raise (
                EngineOom(error.message) if _OUT_OF_MEMORY.search(error.message) else Internal(error.message)
            )
        pieces = [output.outputs[0] for output in outputs]
        reason = "stop" if self._fixed else pieces[-1].finish_reason
        if reason not in ("stop", "length", "repetition"):
            raise Internal(f"the engine ended the page with {reason!r}")
        prompt = last.prompt_token_ids or []
        return Generated(
            text="".join(piece.text for piece in pieces),
            finish_reason=reason,
            tokens=[token for piece in pieces for token in self._tokens(piece)],
            prompt_tokens=len(prompt),
            output_tokens=sum(len(piece.token_ids) for piece in pieces),
            image_tokens=prompt.count(self._image_token) if self._image_token is not None else 0,
        )

    def translated(self, exc: Exception) -> FleetError:
        """The library's error as one of ours."""
        if isinstance(exc, EngineDeadError) or self.dead:
            return EngineCrashed("the engine's process ended")
        if isinstance(exc, VLLMClientError):
            return self._refusal(str(exc))
        said = f"{type(exc).__name__}: {exc}"
        # Whatever fails while a request is made ready comes as the cause of another error.
        causes = [said, *(f"{type(cause).__name__}: {cause}" for cause in _causes(exc))]
        if any(_OUT_OF_MEMORY.search(cause) for cause in causes):
            return EngineOom("there was no memory for the page", reason=causes[-1])
        return Internal(causes[-1])

    def _refusal(self, said: str) -> FleetError:
        if not _TOO_LONG.search(said):
            return ValidationFailed(said)
        found = _LENGTH.search(said)
        actual = int(next(filter(None, found.groups()))) if found else None
        detail = f"prompt and page take {actual or 'more'} tokens, and {self._max_tokens} is the limit with the output"
        return PromptTooLong(detail, limit=self._max_tokens, actual=actual)

    def _prompt(self, text: str) -> Sequence[int]:
        """The model's own chat template around the page and the text, as tokens."""
        held = next((token for token in self._tokenizer.all_special_tokens if token in text), None)
        if held is not None:
            raise ValidationFailed(f"the prompt must not have the model's own token {held!r} in it")
        content = [{"type": "image", "image": "page"}, {"type": "text", "text": text}]
        messages = [{"role": "system", "content": ""}, {"role": "user", "content": content}]
        whole = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tuple(self._tokenizer.encode(whole, add_special_tokens=False))

    def _tokens(self, piece: CompletionOutput) -> list[tuple[str, float]]:
        """The pieces of the text; the token that ends it is none of them."""
        flat: Any = piece.logprobs
        if flat is None:
            return []
        special = self._tokenizer.all_special_ids
        found = zip(flat.token_ids, flat.decoded_tokens, flat.logprobs, strict=True)
        return [(text or "", logprob) for token, text, logprob in found if token not in special]


def geometry_of(processor: Any, max_pixels: int) -> Geometry:
    """What sizes the model's image processor takes."""
    size = processor.size
    try:
        return Geometry(
            factor=processor.patch_size * processor.merge_size,
            min_pixels=size["shortest_edge"],
            max_pixels=min(max_pixels, size["longest_edge"]),
        )
    except (AttributeError, KeyError, TypeError) as exc:
        raise EngineUnfit(
            f"the model's image processor {type(processor).__name__} is of no known kind"
        ) from exc


def _arguments(settings: Settings, geometry: Geometry) -> AsyncEngineArgs:
    speculative = None
    if settings.speculative_model:
        speculative = {
            "method": "dflash",
            "model": settings.speculative_model,
            "num_speculative_tokens": settings.speculative_tokens,
        }
    return AsyncEngineArgs(
        model=settings.model,
        revision=settings.model_revision or None,
        dtype=settings.model_dtype,
        load_format=settings.load_format,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_sequences,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        scheduling_policy="priority",
        limit_mm_per_prompt={"image": 1},
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        # Pages come in a size that fits: below the smallest the processor has nothing to enlarge.
        mm_processor_kwargs={
            "size": {"shortest_edge": geometry.factor**2, "longest_edge": geometry.max_pixels}
        },
        renderer_num_workers=settings.decode_processes,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        speculative_config=speculative,
        # Compiling takes minutes there, for nothing.
        enforce_eager=current_platform.is_cpu(),
        enable_log_requests=False,
        disable_log_stats=True,
    )


def _causes(exc: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while (cause := exc.__cause__ or exc.__context__) is not None:
        found.append(cause)
        exc = cause
    return found
