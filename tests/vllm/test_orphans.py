"""A killed worker's engine process is gone before the next worker takes the device."""

import subprocess
import sys
from pathlib import Path

import psutil
from conftest import PATIENCE
from fleet_builders import is_gone, wait_for

from ocrfleet.settings import Settings, child_environment
from worker.engines import device

WORKER = """
import asyncio, sys
from ocrfleet.settings import Settings
from worker.engines import load

async def main():
    await load(Settings()).start()
    print("started", flush=True)
    await asyncio.sleep(1000)

if __name__ == "__main__":
    asyncio.run(main())
"""


def start_worker(script: Path, settings: Settings, **environment: str) -> "subprocess.Popen[str]":
    """Returns when its engine runs."""
    script.write_text(WORKER)
    members = ("engine", "device", "model", "model_dtype", "max_pixels", "max_model_len", "max_sequences")
    given = {f"OCRFLEET_{name.upper()}": str(getattr(settings, name)) for name in members}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=child_environment(OCRFLEET_SELF_TEST="false", **given, **environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert any(line == "started\n" for line in process.stdout)
    return process


def cores(worker: int) -> list[psutil.Process]:
    children = psutil.Process(worker).children(recursive=True)
    return [child for child in children if "".join(child.cmdline()[:1]).startswith("VLLM::")]


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_the_kernel_ends_the_engine_of_a_killed_worker(settings: Settings, tmp_path: Path) -> None:
    worker = start_worker(tmp_path / "holder.py", settings)
    found = cores(worker.pid)
    assert any("EngineCore" in core.cmdline()[0] for core in found)
    assert device.end_orphans() == [], "the engine of a live worker is nobody's orphan"
    kill(worker)
    wait_for(lambda: all(is_gone(core) for core in found), PATIENCE)


def test_what_the_kernel_left_is_ended_before_the_next_start(settings: Settings, tmp_path: Path) -> None:
    # Without our plugin nothing ties the engine to its worker.
    worker = start_worker(tmp_path / "holder.py", settings, VLLM_PLUGINS="contiguous_onednn")
    (core,) = (core for core in cores(worker.pid) if "EngineCore" in core.cmdline()[0])
    core.suspend()  # nor does it find out by itself
    kill(worker)
    assert not is_gone(core)
    try:
        assert device.end_orphans() == [core.pid]
        assert is_gone(core)
    finally:
        if not is_gone(core):
            core.kill()
