"""The one-machine supervisor: what dies comes back, what ends leaves nothing; with real servers and processes."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import redis
from pydantic import SecretStr

from ocrfleet import blobs, errors
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.embedded.supervisor import Process
from ocrfleet.settings import Settings

PATIENCE = 20.0
"""How long a wait may take before the test has failed; no claim about speed."""
NOWHERE = {"OCRFLEET_DATABASE_URL": "mysql://x", "OCRFLEET_BROKER_URL": "x", "OCRFLEET_STORE_URL": "x"}
HOLDER = """
import sys, threading
from pathlib import Path
from ocrfleet.embedded.fleet import Fleet
fleet = Fleet(Path(sys.argv[1]), services=())
fleet.start()
print(fleet.supervisor, flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state folder for all tests: making a Postgres cluster takes its time."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def fleet(folder: Path) -> Generator[Fleet]:
    with Fleet(folder, services=()) as fleet:
        yield fleet


def wait_for(what: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        pause.wait(0.02)


def family(supervisor: int | None) -> list[psutil.Process]:
    process = psutil.Process(supervisor)
    return [process, *process.children(recursive=True)]


def all_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


def store(fleet: Fleet) -> blobs.Blobs:
    secret = SecretStr(fleet.environment["OCRFLEET_STORE_SECRET_KEY"])
    return blobs.connect(Settings(store_url=fleet.urls["s3"], store_secret_key=secret))


def serves(name: str, fleet: Fleet) -> bool:
    try:
        if name == "postgres":
            with psycopg.connect(fleet.urls[name], connect_timeout=5) as connection:
                connection.execute("SELECT 1")
        elif name == "valkey":
            with redis.Redis.from_url(fleet.urls[name]) as client:
                client.ping()
        else:
            store(fleet).put("ocr", "probe.txt", b"probe", "text/plain")
            store(fleet).fetch("ocr", "probe.txt", max_bytes=10)
    except (psycopg.OperationalError, redis.ConnectionError, errors.StorageUnavailable):
        return False
    return True


def test_each_server_that_is_killed_comes_back_at_its_address_with_its_data(fleet: Fleet) -> None:
    with psycopg.connect(fleet.urls["postgres"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    store(fleet).put("ocr", "kept.jpg", b"kept", "image/jpeg")
    before = fleet.pids
    for name in ("postgres", "valkey", "s3"):
        backends = psutil.Process(before[name]).children(recursive=True)
        os.kill(before[name], signal.SIGKILL)
        assert all_end(backends)
        wait_for(lambda name=name: fleet.pids.get(name, before[name]) != before[name] and serves(name, fleet))
    with psycopg.connect(fleet.urls["postgres"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]
    assert store(fleet).fetch("ocr", "kept.jpg", max_bytes=10).data == b"kept"


def test_stop_leaves_no_process_and_the_next_start_finds_all_as_it_was(folder: Path) -> None:
    fleet = Fleet(folder, services=())
    fleet.start()
    first, processes = dict(fleet.urls), family(fleet.supervisor)
    assert {"postgres", "valkey", "s3"} == set(fleet.pids)
    fleet.stop()
    assert not [process for process in processes if process.is_running()]
    assert fleet.pids == {}
    with Fleet(folder, services=()) as again:
        assert again.urls == first
        assert all(serves(name, again) for name in again.urls)


def test_a_killed_supervisor_leaves_no_process_and_a_folder_that_starts_again(folder: Path) -> None:
    fleet = Fleet(folder, services=())
    fleet.start()
    processes = family(fleet.supervisor)
    processes[0].kill()
    assert all_end(processes[1:])
    fleet.stop()
    with Fleet(folder, services=()) as again:
        assert all(serves(name, again) for name in again.urls)


def test_a_killed_owner_leaves_no_process(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        processes = family(int(owner.stdout.readline()))
        assert len(processes) > 3
        owner.kill()
        assert all_end(processes)


def api_answers(fleet: Fleet) -> bool:
    headers = {"Authorization": f"Bearer {fleet.state.api_key}"}
    try:
        return httpx.get(f"{fleet.urls['api']}/v1/fleet", headers=headers).status_code == 200
    except httpx.TransportError:
        return False


def test_services_run_come_back_and_are_prepared_anew_for_a_new_database(tmp_path: Path) -> None:
    with Fleet(tmp_path, engine="null", flower=True) as fleet:
        assert api_answers(fleet)
        wait_for(lambda: "worker@" in httpx.get(f"{fleet.urls['flower']}/workers").text)
        before = fleet.pids
        for name in ("api", "producer", "worker"):
            os.kill(before[name], signal.SIGKILL)
        wait_for(lambda: {"api", "producer", "worker"} <= set(fleet.pids) and api_answers(fleet))
        assert not {fleet.pids[name] for name in ("api", "producer", "worker")} & set(before.values())
        processes = family(fleet.supervisor)
    assert not [process for process in processes if process.is_running()]
    with Fleet(tmp_path, engine="null", services=("api",)) as fleet:
        assert api_answers(fleet)
    shutil.rmtree(tmp_path / "postgres")
    with Fleet(tmp_path, engine="null", services=("api",)) as fleet:
        assert api_answers(fleet)


def test_a_folder_has_one_owner(fleet: Fleet) -> None:
    with pytest.raises(errors.StateInUse, match=str(os.getpid())):
        Fleet(fleet.state.root, services=()).start()
    assert serves("valkey", fleet)


def test_what_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, services=("producer",), extra=NOWHERE)
    with pytest.raises(errors.StartFailed, match=r"(?s)migrate did not start.*mysql"):
        fleet.start()
    assert fleet.supervisor is None


def test_secrets_are_for_the_owner_alone(fleet: Fleet) -> None:
    assert fleet.environment["OCRFLEET_API_KEY"].startswith("ocrk_")
    files = [path for path in fleet.state.root.glob("*/*.conf") if path.parent.name != "data"]
    for path in [fleet.state.root / "state.json", *files]:
        assert path.stat().st_mode & 0o077 == 0, path
    secret = fleet.environment["OCRFLEET_STORE_SECRET_KEY"]
    for process in family(fleet.supervisor):
        assert secret not in " ".join(process.cmdline())


@contextlib.contextmanager
def supervised(folder: Path, **scripts: str) -> Generator[subprocess.Popen[str]]:
    """Shell scripts under a supervisor; their ranks follow their order."""
    processes = [
        Process(name=name, argv=["/bin/sh", "-c", script], cwd=str(folder), rank=rank, grace=2)
        for rank, (name, script) in enumerate(scripts.items())
    ]
    given = {
        "environment": {"PATH": "/usr/bin:/bin"},
        "logs": str(folder),
        "status": str(folder / "status.json"),
        "give_up": PATIENCE,
        "processes": [dataclasses.asdict(process) for process in processes],
    }
    argv = [sys.executable, "-m", "ocrfleet.embedded.supervisor"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdin
        assert supervisor.stdout
        supervisor.stdin.write(json.dumps(given) + "\n")
        supervisor.stdin.flush()
        assert json.loads(supervisor.stdout.readline()) == {"ready": True}
        yield supervisor


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_what_a_dead_child_left_behind_is_ended(tmp_path: Path) -> None:
    script = "setsid sleep 1000 & echo $! >> orphans; sleep 1000 & echo $! >> orphans; echo $$ >> self; wait"
    with supervised(tmp_path, parent=script):
        wait_for(lambda: bool(lines(tmp_path / "self")))
        orphans = [psutil.Process(int(pid)) for pid in lines(tmp_path / "orphans")]
        assert len(orphans) == 2
        os.kill(int(lines(tmp_path / "self")[0]), signal.SIGKILL)
        assert all_end(orphans)
        wait_for(lambda: len(lines(tmp_path / "self")) == 2)


def test_a_child_that_dies_at_once_again_and_again_is_restarted_ever_later(tmp_path: Path) -> None:
    with supervised(tmp_path, hasty="date +%s.%N >> starts"):
        wait_for(lambda: len(lines(tmp_path / "starts")) >= 5)
    starts = [float(line) for line in lines(tmp_path / "starts")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[1:4] == sorted(gaps[1:4])
    assert gaps[3] > 1


@pytest.mark.parametrize("how", ["end of file", "SIGTERM"])
def test_children_stop_by_rank_and_one_that_will_not_is_killed(tmp_path: Path, how: str) -> None:
    said = "trap 'sleep {1}; echo {0} >> order; exit' TERM; echo {0} >> up; while :; do sleep 0.05; done"
    stubborn = "trap '' TERM; echo stubborn >> up; while :; do sleep 0.05; done"
    scripts = {"worker": said.format("worker", 0.5), "stubborn": stubborn, "server": said.format("server", 0)}
    with supervised(tmp_path, **scripts) as supervisor:
        wait_for(lambda: len(lines(tmp_path / "up")) == 3)
        processes = family(supervisor.pid)
        if how == "SIGTERM":
            supervisor.terminate()
        elif supervisor.stdin:
            supervisor.stdin.close()
        assert supervisor.wait(PATIENCE) == 0
    assert lines(tmp_path / "order") == ["worker", "server"]
    assert not [process for process in processes if process.is_running()]
