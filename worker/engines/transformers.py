"""PyTorch without vLLM, for debugging and for devices that vLLM does not know: one page at a time, on one thread.

torch and transformers are imported when it starts. A schema does not bind the output here; it is only checked against it.
"""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ocrfleet.catalogue import TASKS, build_prompt
from ocrfleet.errors import Canceled, EngineCrashed, EngineOom, EngineUnfit, FleetError, Internal
from ocrfleet.settings import Settings
from worker.engines.base import EngineInfo, PageRequest, PageResult
from worker.engines.checkpoints import revision_of
from worker.engines.scaling import image_of
from worker.outputs import language
from worker.outputs.generated import Generated
from worker.outputs.interpret import interpret

_IN_FLIGHT = 2
"""One page that it reads and one that is decoded meanwhile."""
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.I)


@dataclass(slots=True)
class _Watch:
    """Sees every step of a generation: keeps the chosen tokens' log-probabilities, and ends it when told to.

    Scores are kept for one step only: those of a whole page would take gigabytes.
    """

    torch: Any
    stop: threading.Event
    logprobs: list[float] = field(default_factory=list[float])
    scores: Any = None

    def see(self, _: object, scores: Any) -> Any:  # noqa: ANN401 (a tensor)
        """As the last of the logits processors; changes nothing."""
        self.scores = scores
        return scores

    def ended(self, ids: Any, _: object, **__: object) -> Any:  # noqa: ANN401 (tensors)
        """As stopping criterion: called when the step's token has been chosen."""
        chosen = self.torch.log_softmax(self.scores[0].float(), -1)[ids[0, -1]]
        self.logprobs.append(float(chosen))
        return self.torch.full((ids.shape[0],), self.stop.is_set(), device=ids.device, dtype=self.torch.bool)


class TransformersEngine:
    """`settings.device`: `cpu:N` is the CPU with N threads, anything else the CUDA device that is visible."""

    reads_pixels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "transformers")
        self._stops: dict[str, threading.Event] = {}
        self._broken = False

    async def start(self) -> EngineInfo:
        """EngineUnfit for a name on the hub without a revision, and for one that cannot be loaded."""
        revision = await asyncio.to_thread(revision_of, self._settings)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        await asyncio.to_thread(language.identifier)
        return EngineInfo("transformers", self._settings.model, revision, tuple(TASKS), _IN_FLIGHT)

    def wanted(self) -> int:
        return _IN_FLIGHT

    async def recognize(self, request: PageRequest) -> PageResult:
        loop = asyncio.get_running_loop()
        stop = self._stops[request.request_id] = threading.Event()
        try:
            generated = await loop.run_in_executor(self._thread, self._generate, request, stop, loop)
        finally:
            # Nobody waits any more, whatever the reason: the thread is free at the next token.
            stop.set()
            del self._stops[request.request_id]
        return interpret(request, generated)

    async def abort(self, request_id: str) -> None:
        if stop := self._stops.get(request_id):
            stop.set()

    async def healthy(self) -> bool:
        return not self._broken

    async def stop(self) -> None:
        self._broken = True
        for stop in self._stops.values():
            stop.set()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _load(self) -> None:
        torch: Any = import_module("torch")
        transformers: Any = import_module("transformers")
        name, cpu = self._settings.model, re.fullmatch(r"cpu:(\d+)", self._settings.device)
        if cpu:
            torch.set_num_threads(int(cpu[1]))
        self._torch, self._device = torch, "cpu" if cpu else "cuda"
        given: dict[str, Any] = {"revision": self._settings.model_revision or None}
        if Path(name).is_dir():
            given["local_files_only"] = True
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(name, **given)
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                name, dtype=self._settings.model_dtype, **given
            )
        except (OSError, ValueError) as exc:
            raise EngineUnfit(f"the model {name} cannot be loaded: {exc}") from exc
        self._model = model.to(self._device).eval()

    def _generate(
        self, request: PageRequest, stop: threading.Event, loop: asyncio.AbstractEventLoop
    ) -> Generated:
        if stop.is_set():
            raise Canceled("the page was aborted")
        if self._broken:
            raise EngineCrashed("the engine takes no pages any more")
        loop.call_soon_threadsafe(request.begun)
        try:
            generated = self._read(request, _Watch(self._torch, stop))
        except FleetError:
            raise
        # torch raises RuntimeErrors of many kinds, and models anything.
        except Exception as exc:
            raise self._translated(exc) from exc
        if stop.is_set():
            raise Canceled("the page was aborted")
        return generated

    def _translated(self, exc: Exception) -> FleetError:
        if isinstance(exc, self._torch.OutOfMemoryError) or _NO_MEMORY.search(str(exc)):
            if self._device == "cuda":
                self._torch.cuda.empty_cache()
            return EngineOom(f"no memory for the page: {exc}")
        if "CUDA error" in str(exc):
            # After it every call into the device fails, until a new process opens it.
            self._broken = True
            return EngineCrashed(f"the device failed: {exc}")
        return Internal(f"the model failed: {type(exc).__name__}: {exc}")

    def _read(self, request: PageRequest, watch: _Watch) -> Generated:
        inputs = self._inputs(request)
        prompt_tokens = int(inputs["input_ids"].shape[1])
        with self._torch.inference_mode():
            output = self._model.generate(
                **inputs,
                **_sampling(request),
                logits_processor=[watch.see],
                stopping_criteria=[watch.ended],
            )
        ids: list[int] = output[0][prompt_tokens:].tolist()
        # One id, or a list of them.
        ends = self._torch.tensor(self._model.generation_config.eos_token_id or []).flatten().tolist()
        full = len(ids) >= request.parameters.max_tokens and ids[-1] not in ends
        return Generated(
            text=self._processor.decode(ids, skip_special_tokens=True),
            finish_reason="length" if full else "stop",
            tokens=self._pieces(ids, watch.logprobs),
            prompt_tokens=prompt_tokens,
            output_tokens=len(ids),
            image_tokens=int((inputs["input_ids"] == self._model.config.image_token_id).sum()),
        )

    def _inputs(self, request: PageRequest) -> Any:  # noqa: ANN401 (tensors by name)
        if request.pixels is None:
            raise Internal("the engine transformers needs pixels")
        own = self._settings.max_pixels
        image = image_of(request.pixels, min(request.parameters.max_pixels or own, own)).convert("RGB")
        text = build_prompt(request.task, request.prompt, request.options)
        content = [{"type": "image"}, {"type": "text", "text": text}]
        # The model is used to an empty system message.
        messages = [{"role": "system", "content": ""}, {"role": "user", "content": content}]
        prompt = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = self._processor(text=[prompt], images=[image], return_tensors="pt")
        return inputs.to(self._device, dtype=self._model.dtype)

    def _pieces(self, ids: list[int], logprobs: list[float]) -> list[tuple[str, float]]:
        """Each token's part of the text; one that ends within a character leaves its part to the next."""
        pieces: list[tuple[str, float]] = []
        open_: list[int] = []
        for token, logprob in zip(ids, logprobs, strict=False):
            open_.append(token)
            piece = self._processor.decode(open_, skip_special_tokens=True)
            if piece.endswith("\ufffd"):
                piece = ""
            else:
                open_ = []
            pieces.append((piece, logprob))
        return pieces


def _sampling(request: PageRequest) -> dict[str, Any]:
    given = request.parameters
    chosen: dict[str, Any] = {
        "max_new_tokens": given.max_tokens,
        "repetition_penalty": given.repetition_penalty,
        "do_sample": given.temperature > 0,
    }
    if given.temperature > 0:
        chosen |= {"temperature": given.temperature, "top_p": given.top_p, "top_k": max(0, given.top_k)}
    return chosen
