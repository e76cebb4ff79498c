"""`workers start`: pinned workers come back, drain, and are alone on their device; with real processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import psutil
import pytest
from fleet_builders import PATIENCE, sql, wait_for
from sqlalchemy import Row

from ocrfleet.db import Database
from ocrfleet.settings import Settings, child_environment
from ocrfleet.store import tenants
from worker.app import create_app
from worker.restarts import BARREN_DEATH, ENGINE_DEATH, NO_DEVICE_LEFT, REFUSED

HOST = socket.gethostname()
SUPERVISE = "import sys; from worker.supervisor import main; sys.exit(main(sys.argv[1:3], sys.argv[3:]))"
"""The supervisor with a command in the worker's place."""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Generator[Start]:
    """Start `ocrfleet workers start`, or the supervisor over a shell script in the worker's place."""
    environment = child_environment(
        OCRFLEET_DATABASE_URL=database_url,
        OCRFLEET_BROKER_URL=broker_url,
        OCRFLEET_STORE_URL="null://?objects=0",
        OCRFLEET_NULL_READS_PIXELS="false",
        OCRFLEET_DRAIN_TIMEOUT="2",
        OCRFLEET_HEARTBEAT_INTERVAL="0.2",
        OCRFLEET_STATE=str(tmp_path / "state"),
        # The locks' folder; and no nvidia-smi, which might not list the devices that the tests name.
        TMPDIR=str(tmp_path),
        PATH="/usr/bin:/bin" if not Path("/usr/bin/nvidia-smi").exists() else "/bin",
        FOLDER=str(tmp_path),
    )
    started: list[subprocess.Popen[str]] = []

    def start(gpus: str, script: str | None = None, *, engine: str = "null") -> "subprocess.Popen[str]":
        argv = [sys.executable, "-m", "ocrfleet.cli", "workers", "start", "--engine", engine, "--gpus", gpus]
        if script:
            argv = [sys.executable, "-c", SUPERVISE, "--gpus", gpus, "/bin/sh", "-c", script]
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def rows(database: Database, state: str) -> dict[str, Row[tuple[object, ...]]]:
    """By name, the latest worker in this state."""
    found = sql(database, "SELECT * FROM workers WHERE state = :state ORDER BY started_at", state=state)
    return {row.name: row for row in found}


def pid(database: Database, name: str, state: str = "ready") -> int:
    row = rows(database, state).get(name)
    return int(str(row.pid)) if row else 0


def environ(number: int) -> dict[str, str]:
    entries = Path(f"/proc/{number}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def ended(processes: Sequence[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


@contextlib.contextmanager
def drained(process: "subprocess.Popen[str]", *, signals: int = 1) -> Generator[None]:
    """At the end the supervisor is told to stop: it leaves with 0 and leaves no process."""
    yield
    family = psutil.Process(process.pid).children(recursive=True)
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.3)
    assert process.wait(PATIENCE) == 0
    assert not [one for one in family if one.is_running()]


def test_each_device_has_its_pinned_worker_that_comes_back_and_drains(
    start: Start, database: Database, broker_url: str
) -> None:
    names = [f"ocr@{HOST}-gpu0", f"ocr@{HOST}-gpu1"]
    app = create_app(Settings(broker_url=broker_url))

    def answer() -> bool:
        """Whether those of these names, and no others, are in Celery too: what Flower shows."""
        return sorted(name for answer in app.control.ping(timeout=1) for name in answer) == names

    supervisor = start("0,1")
    with drained(supervisor):
        wait_for(lambda: sorted(rows(database, "ready")) == names)
        before = [pid(database, name) for name in names]
        for index, number in enumerate(before):
            found = environ(number)
            assert found["CUDA_VISIBLE_DEVICES"] == str(index)
            assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
            assert found["OCRFLEET_DEVICE"] == f"gpu{index}"
        wait_for(answer)

        another = start("1")
        assert another.wait(PATIENCE) == 1
        assert another.stderr
        said = another.stderr.read()
        assert f"gpu1 has a worker already: process {supervisor.pid} holds" in said

        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: pid(database, names[0]) not in (0, before[0]))
        assert pid(database, names[1]) == before[1]
        wait_for(answer)
    app.close()
    assert sorted(rows(database, "stopped")) == names
    assert pid(database, names[1], "stopped") == before[1]
    # Its devices are free again.
    with drained(start("cpu:1")):
        wait_for(lambda: f"ocr@{HOST}-cpu" in rows(database, "ready"))
        row = rows(database, "ready")[f"ocr@{HOST}-cpu"]
        assert row.device == "cpu:1"
        assert environ(int(str(row.pid)))["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("engine", ["vllm", "of_another_release"])
def test_an_engine_that_refuses_to_start_says_so_in_the_record_and_its_only_device_is_out(
    start: Start, database: Database, database_url: str, engine: str
) -> None:
    name = f"ocr@{HOST}-gpu3"
    assert start("3", engine=engine).wait(PATIENCE) == NO_DEVICE_LEFT
    row = rows(database, "refused")[name]
    assert (row.engine, row.device, row.tasks) == (engine, "gpu3", [])
    assert row.last_error
    with served(database, database_url) as environment:
        (shown,) = map(json.loads, listed(environment, "--json"))
        assert (shown["state"], shown["alive"], shown["last_error"]) == ("refused", False, row.last_error)
        header, line = listed(environment)
        assert header.split()[:5] == ["name", "device", "engine", "model", "state"]
        assert line.split()[:5] == [name, "gpu3", engine, row.model, "refused"]
        assert line.endswith(str(row.last_error))
    with drained(start("3")):
        wait_for(lambda: name in rows(database, "ready"))
        assert rows(database, "refused") == {}


@contextlib.contextmanager
def served(database: Database, database_url: str) -> Generator[dict[str, str]]:
    """The environment for a command that talks to a served API."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with database.transaction() as session:
        key = tenants.create_key(session, tenant=tenants.DEFAULT)
    environment = child_environment(
        OCRFLEET_DATABASE_URL=database_url,
        OCRFLEET_STORE_URL="null://?objects=0",
        OCRFLEET_API_PORT=str(port),
        OCRFLEET_URL=f"http://127.0.0.1:{port}",
        OCRFLEET_API_KEY=key,
    )
    with subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=subprocess.PIPE) as api:
        yield environment
        api.kill()


def listed(environment: dict[str, str], *arguments: str) -> list[str]:
    """What `ocrfleet workers ls` prints; it waits for the API itself."""
    argv = [sys.executable, "-m", "ocrfleet.cli", "workers", "ls", *arguments]
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_a_dead_worker_left_is_ended_before_its_device_is_used_again(
    start: Start, tmp_path: Path
) -> None:
    # The next worker notes whether the orphans of the one before it still run.
    script = """
        for pid in $(cat $FOLDER/orphans); do [ -e /proc/$pid ] && echo $pid >> $FOLDER/overlap; done
        setsid sleep 1000 & echo $! >> $FOLDER/orphans
        sleep 1000 & echo $! >> $FOLDER/orphans
        echo $$ >> $FOLDER/self; wait"""
    (tmp_path / "orphans").touch()
    with drained(start("0", script)):
        wait_for(lambda: lines(tmp_path / "self"))
        orphans = [psutil.Process(int(number)) for number in lines(tmp_path / "orphans")]
        assert len(orphans) == 2
        os.kill(int(lines(tmp_path / "self")[0]), signal.SIGKILL)
        assert ended(orphans)
        wait_for(lambda: len(lines(tmp_path / "self")) == 2)
        assert lines(tmp_path / "overlap") == []


def test_a_killed_supervisor_takes_its_workers_along_and_frees_its_devices(
    start: Start, tmp_path: Path
) -> None:
    script = "echo $$ >> $FOLDER/self; while :; do sleep 0.1; done"
    supervisor = start("0,1", script)
    wait_for(lambda: len(lines(tmp_path / "self")) == 2)
    family = [psutil.Process(int(number)) for number in lines(tmp_path / "self")]
    supervisor.kill()
    assert ended(family)
    with drained(start("0,1", script)):
        wait_for(lambda: len(lines(tmp_path / "self")) == 4)


def test_a_device_whose_engine_dies_twice_unused_is_quarantined_and_the_others_go_on(
    start: Start, database: Database, tmp_path: Path
) -> None:
    script = f"""
        echo $CUDA_VISIBLE_DEVICES >> $FOLDER/starts
        case $CUDA_VISIBLE_DEVICES in 0) exit {BARREN_DEATH};; 1) exit {ENGINE_DEATH};; esac"""
    name = f"ocr@{HOST}-gpu0"
    supervisor = start("0,1", script)
    with drained(supervisor):
        row = wait_for(lambda: rows(database, "quarantined").get(name))
        assert "died 2 times in a row before it had read a page" in str(row.last_error)
        assert "ocrfleet workers start --gpus 0" in str(row.last_error)
        others = lines(tmp_path / "starts").count("1")
        wait_for(lambda: lines(tmp_path / "starts").count("1") >= others + 2)
        assert lines(tmp_path / "starts").count("0") == 2
        # Repaired: another supervisor may have it, beside the one that gave it up.
        with drained(start("0")):
            wait_for(lambda: pid(database, name))
            assert rows(database, "quarantined") == {}


@pytest.mark.parametrize("code", [BARREN_DEATH, REFUSED])
def test_without_a_device_left_the_supervisor_leaves(start: Start, code: int) -> None:
    supervisor = start("0,1", f"exit {code}")
    assert supervisor.wait(PATIENCE) == NO_DEVICE_LEFT
    assert supervisor.stderr
    said = [json.loads(line) for line in supervisor.stderr]
    codes = [entry["exit_code"] for entry in said if entry["event"] == "worker_ended"]
    assert codes == [code] * (4 if code == BARREN_DEATH else 2)
    assert [entry["devices"] for entry in said if entry["event"] == "no_device_left"] == [["gpu0", "gpu1"]]


def test_a_second_signal_does_not_wait_for_a_worker_that_will_not_drain(start: Start, tmp_path: Path) -> None:
    script = "trap 'echo asked >> $FOLDER/asked' TERM; echo $$ >> $FOLDER/self; while :; do sleep 0.1; done"
    begun = 0.0
    with drained(start("0,1", script), signals=2):
        wait_for(lambda: len(lines(tmp_path / "self")) == 2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 8, "the time to drain, 12 s, was waited for"
    assert len(lines(tmp_path / "asked")) == 2


def test_the_cli_names_what_is_wrong_with_a_call(start: Start) -> None:
    for gpus, status, message in (("x", 2, "'x' is no device"), ("all", 1, "no nvidia-smi on PATH")):
        process = start(gpus)
        assert process.wait(PATIENCE) == status
        assert process.stderr
        assert message in process.stderr.read()
