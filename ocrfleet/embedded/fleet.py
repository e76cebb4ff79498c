"""A whole fleet on one machine: servers from wheels, migration, services, under one supervisor process."""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ocrfleet.embedded import servers
from ocrfleet.embedded.state import State
from ocrfleet.embedded.supervisor import Process
from ocrfleet.errors import StartFailed
from ocrfleet.settings import child_environment

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"
FLOWER = ("celery", "flower", "--address=127.0.0.1", "--read_only=True")
RANKS = {"worker": 0, "producer": 1, "api": 1, "flower": 1}
NICE = {"worker": 12, "producer": 8}
"""So that on one machine the API answers and jobs expand while pages are read."""
DRAIN = 35.0
"""What a worker gets to finish its pages (seconds), a little over its own limit."""


class Fleet:
    """Started by `start` or `with`; at the end, however it comes, no process is left.

    `services` names what runs: `api`, `producer`, `worker`, or several workers as `worker-1`, `worker-2`. `extra` are
    further `OCRFLEET_…` settings for them; a server whose URL is among them is not started.
    """

    def __init__(
        self,
        state: Path,
        *,
        engine: str = "rapidocr",
        device: str = "cpu:1",
        flower: bool = False,
        services: Sequence[str] = ("api", "producer", "worker"),
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.state = State(state)
        self.urls: dict[str, str] = {}
        self._services = (*services, "flower") if flower else tuple(services)
        self._extra = {"OCRFLEET_ENGINE": engine, "OCRFLEET_DEVICE": device, **(extra or {})}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The settings (`OCRFLEET_…`) for a client or a further service of this fleet."""
        url = self.urls
        found = {
            "OCRFLEET_DATABASE_URL": url.get("postgres"),
            "OCRFLEET_BROKER_URL": url.get("valkey"),
            "OCRFLEET_STORE_URL": url.get("s3"),
            "OCRFLEET_STORE_ACCESS_KEY": "ocrfleet",
            "OCRFLEET_STORE_SECRET_KEY": self.state.secret("s3"),
            "OCRFLEET_API_PORT": url.get("api", "").rpartition(":")[2],
            "OCRFLEET_URL": url.get("api"),
            "OCRFLEET_API_KEY": self.state.api_key,
            "OCRFLEET_STATE": str(self.state.root),
        }
        return {name: value for name, value in found.items() if value} | self._extra

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, as of now; empty when nothing runs."""
        return {name: child["pid"] for name, child in self._status().get("processes", {}).items()}

    @property
    def supervisor(self) -> int | None:
        """The supervisor's process id; None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, timeout: float = 120.0) -> None:
        """Return when all of it serves; StartFailed, with the end of its log, for what did not."""
        lock = self.state.lock()
        try:
            processes = [*self._servers(), *self._ours()]
            # Made before the state is saved: clients read it there.
            _ = self.environment
            self.state.save()
            self._process = self._supervise(processes, lock, timeout)
        finally:
            # From here on the supervisor holds the lock.
            self.state.unlock()
        told = self._process.stdout.readline() if self._process.stdout else ""
        answer = json.loads(told or '{"failed": "supervisor"}')
        if "failed" in answer:
            self.stop()
            name = answer["failed"]
            log = self.state.logs / f"{name}.log"
            raise StartFailed(
                f"{name} did not start; the end of {log}:\n{log.read_text()[-2000:]}", name=name
            )

    def stop(self) -> None:
        """Stop in order and wait; an interrupt while waiting ends the draining of the worker."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin:
            process.stdin.close()
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
        finally:
            if process.stdout:
                process.stdout.close()
        self.urls = {}

    def _servers(self) -> list[Process]:
        started: list[Process] = []
        if "OCRFLEET_DATABASE_URL" not in self._extra:
            started.append(servers.postgres(self.state))
        if "OCRFLEET_BROKER_URL" not in self._extra:
            started.append(servers.valkey(self.state))
        if "OCRFLEET_STORE_URL" not in self._extra:
            started.append(servers.s3(self.state, self._extra.get("OCRFLEET_BUCKET", "ocr")))
        self.urls = {server.name: server.url for server in started}
        return started

    def _ours(self) -> list[Process]:
        if not self._services:
            return []
        prepare = self._prepare()
        after = [*self.urls, *(one.name for one in prepare)]
        return [*prepare, *(self._service(name, after) for name in self._services)]

    def _prepare(self) -> list[Process]:
        """What sets the database up; nothing where our own one is known to be so, to start a second sooner."""
        argv = [sys.executable, "-m", "ocrfleet.embedded.prepare"]
        if "postgres" in self.urls:
            wanted = hashlib.sha256(self.state.api_key.encode())
            for file in sorted(MIGRATIONS.glob("*.py")):
                wanted.update(file.read_bytes())
            # Beside the data, so that it goes when they go.
            done = self.state.root / "postgres" / "prepared"
            if done.exists() and done.read_text() == wanted.hexdigest():
                return []
            argv += [str(done), wanted.hexdigest()]
        after = [name for name in self.urls if name == "postgres"]
        return [Process(name="migrate", argv=argv, cwd=str(self.state.root), after=after, once=True)]

    def _service(self, name: str, after: list[str]) -> Process:
        module = name.partition("-")[0]
        argv, ready, env = [module], list[str](), dict[str, str]()
        if module == "worker":
            env = {"OCRFLEET_WORKER_NAME": name}
        if name == "api":
            self.urls["api"] = f"http://127.0.0.1:{self.state.port('api')}"
            ready = [f"{self.urls['api']}/readyz"]
        if name == "flower":
            port = self.state.port("flower")
            self.urls["flower"] = f"http://127.0.0.1:{port}"
            env = {"CELERY_BROKER_URL": self.environment["OCRFLEET_BROKER_URL"]}
            argv, ready = [*FLOWER, f"--port={port}"], [f"{self.urls['flower']}/healthcheck"]
        return Process(
            name=name,
            argv=[sys.executable, "-m", *argv],
            cwd=str(self.state.root),
            env=env,
            ready=ready,
            after=after,
            # Flower has nothing to finish, and takes seconds to say so.
            stop_signal=signal.SIGKILL if name == "flower" else signal.SIGTERM,
            grace=DRAIN if module == "worker" else 5.0,
            rank=RANKS[module],
            nice=NICE.get(module, 0),
        )

    def _supervise(self, processes: list[Process], lock: int, timeout: float) -> subprocess.Popen[str]:
        # A folder of the user's that is named like a service must not be imported.
        environment = child_environment(**self.environment, PYTHONSAFEPATH="1")
        with (self.state.logs / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ocrfleet.embedded.supervisor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=self.state.root,
                pass_fds=(lock,),
                start_new_session=True,
            )
        given: dict[str, Any] = {
            "environment": environment,
            "logs": str(self.state.logs),
            "status": str(self.state.status),
            "give_up": timeout,
            "processes": [dataclasses.asdict(one) for one in processes],
        }
        if process.stdin:
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
        return process

    def _status(self) -> dict[str, Any]:
        try:
            return json.loads(self.state.status.read_text())
        except FileNotFoundError:
            return {}
