"""Real vLLM on a CPU, with a tiny checkpoint; its environment is that of `make test-vllm`."""

import asyncio
import gc
import importlib.util
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ocrfleet.settings import Settings, set_environment
from worker.engines import load

# The pages of the contract suite.
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
PRESENT = importlib.util.find_spec("torch") is not None
if not PRESENT:
    collect_ignore_glob = ["*.py"]

T = TypeVar("T")

MAX_PIXELS = 256 * 256
PATIENCE = 300.0


def pytest_configure(config: pytest.Config) -> None:
    if PRESENT:
        # Of vLLM and torch, about each other.
        config.addinivalue_line("filterwarnings", "default")
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")
        # A gigabyte of cache holds all that is read here.
        set_environment(VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="WARNING")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(2 * PATIENCE))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bench.checkpoint import write

    return write(tmp_path_factory.mktemp("tiny-hunyuan-vl"))


@pytest.fixture(scope="session")
def settings(checkpoint: Path) -> Settings:
    return Settings(
        engine="vllm",
        device="cpu:1",
        model=str(checkpoint),
        model_dtype="float32",
        max_pixels=MAX_PIXELS,
        max_model_len=1024,
        max_sequences=8,
    )


class Running:
    """An engine on an event loop of its own thread, as the runner has it."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.engine: Any = load(settings)
        self.info: Any = None

    def start(self) -> None:
        self.info = self.run(self.engine.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def stop(self) -> None:
        self.run(self.engine.stop())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        # vLLM leaves its sockets' context to the collector, whose warning would come after the last test.
        self.engine = None
        gc.collect()


@pytest.fixture(scope="session")
def running(settings: Settings) -> Iterator[Running]:
    """One engine for all tests that leave it alive; its start has passed the self-test."""
    running = Running(settings)
    try:
        running.start()
        yield running
    finally:
        running.stop()
