"""The process that holds a worker's device: it ends with its worker, and what a killed worker left behind is ended."""

import contextlib
import multiprocessing
import os

import psutil
import structlog

from ocrfleet.processes import bind_to
from ocrfleet.settings import set_environment

MARK = "OCRFLEET_ENGINE_OF"
"""In the environment of an engine's process: the worker that started it."""
TITLE = "VLLM::EngineCore"
_END_TIMEOUT = 15.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def mark() -> None:
    """What this process starts from now on can be told for its own."""
    # With a title of its own a process would otherwise wipe its environment, as others see it.
    set_environment(**{MARK: str(os.getpid()), "SPT_NOENV": "1"})


def end_orphans() -> list[int]:
    """End the engine processes of workers that are gone and wait until their devices are free; their process ids."""
    orphans = [process for process in psutil.process_iter() if _is_orphan(process)]
    for process in orphans:
        _log.warning("orphan_ended", pid=process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(orphans, timeout=_END_TIMEOUT)
    for process in alive:
        _log.error("orphan_stays", pid=process.pid)
    return [process.pid for process in orphans]


def _is_orphan(process: psutil.Process) -> bool:
    # Another's process hides its environment, or ends while it is looked at.
    with contextlib.suppress(psutil.Error):
        if process.status() == psutil.STATUS_ZOMBIE or process.uids().real != os.getuid():
            return False
        if not "".join(process.cmdline()[:1]).startswith(TITLE):
            return False
        # Whoever adopted it, be it the first process or a supervisor, is not the worker that it names.
        return process.environ().get(MARK, str(process.ppid())) != str(process.ppid())
    return False


def bind_to_worker() -> None:
    """A plugin of vLLM, called in each of its processes: the kernel ends it together with the one that started it.

    The worker itself, in which it is called too, was started by nobody's multiprocessing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        bind_to(parent.pid)
