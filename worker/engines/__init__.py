"""The engines: one file each behind the seam in base.py, loaded by name."""

import importlib

from ocrfleet.settings import Settings
from worker.engines.base import Engine

ENGINES = {
    "null": "worker.engines.null:NullEngine",
    "openai": "worker.engines.openai:OpenAiEngine",
    "rapidocr": "worker.engines.rapidocr:RapidOcrEngine",
    "transformers": "worker.engines.transformers:TransformersEngine",
    "vllm": "worker.engines.vllm:VllmEngine",
}
"""Engine name → `module:class`; a module is imported only when its engine is asked for."""


def load(settings: Settings) -> Engine:
    """The engine that `settings.engine` names; ValueError with the known names for another."""
    target = ENGINES.get(settings.engine)
    if target is None:
        msg = f"unknown engine {settings.engine!r}; known: {', '.join(sorted(ENGINES))}"
        raise ValueError(msg)
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(settings)
