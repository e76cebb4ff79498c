"""The fleet that is put through it: servers and services with production's timeouts, and a far one behind bad lines."""

import hashlib
import importlib.util
import json
import math
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings
from ocrfleet.store import tenants
from tests.chaos import witness
from tests.chaos.far_store import FarStore
from tests.tcp_proxy import TcpProxy

TENANTS = ("alpha", "beta", "gamma")
WHALE = "whale"
"""The tenant with a job that is larger than all others."""
PATIENT = "patient"
"""The tenant that sends one page, behind the others' thousands."""
MISSING = 1009
"""Every so many-th object is not there: the dead letters that are expected."""
POISON = 2500
"""The number of the object that ends whatever process reads it."""
BATCH = 32
MESSAGES = 36
"""Of so many pages each, in flight when all workers are there."""
FAR_FAILPOINTS = (
    "worker.claimed=exit@p0.01,settle.before_insert=exit@p0.005,settle.after_insert=pause:0.2@p0.02,"
    "settle.before_commit=exit@p0.005,settle.after_commit=exit@p0.005,dispatch.committed=exit@p0.005,"
    "dispatch.published=exit@p0.005,expand.chunk=exit@p0.02"
)

FAR_CLOCKS = {"+90m": ("producer",), "-6h": ("worker-91", "worker-92")}
"""How far the far side's clocks are from everybody else's."""


def clock(skew: str) -> dict[str, str]:
    """The environment of a process whose clock is so far off; its monotonic clock is right, as on any machine."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        return {}
    library = Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    if not library.is_file():
        return {}
    return {"LD_PRELOAD": str(library), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def key(number: int) -> str:
    return f"{number:012}.png"


def expected_text(name: str) -> str:
    """What the null engine reads in the numbered object: the SHA-256 of its pixels, three equal channels each."""
    digest = hashlib.sha256(name.encode()).digest()
    return hashlib.sha256(bytes(value for value in digest for _ in range(3)) * 32).hexdigest()


SETTINGS = {
    "OCRFLEET_STORE_URL": f"null://?objects=0&numbered=1&missing={MISSING}",
    "OCRFLEET_NULL_LATENCY": "0.15",
    "OCRFLEET_NULL_IN_FLIGHT": "16",
    "OCRFLEET_NULL_POISON": expected_text(key(POISON)),
    "OCRFLEET_MAX_BATCH_PAGES": str(BATCH),
    "OCRFLEET_BATCH_SECONDS": "60",
    "OCRFLEET_EXPAND_CHUNK": "500",
    "OCRFLEET_DECODE_PROCESSES": "1",
    "OCRFLEET_LOG_LEVEL": "warning",
}


class Rig:
    """Everything, from the servers to the tenants' keys; `with` starts it, and nothing is left of it afterwards."""

    def __init__(self, workers: int, keep: Path | None = None) -> None:
        self.workers = [f"worker-{n}" for n in range(1, workers + 1)]
        # One slot of each is kept free for interactive pages.
        self.room = math.ceil(MESSAGES / workers)
        self.settings = SETTINGS | {"OCRFLEET_SLOTS": str(self.room + 1)}
        self.keys: dict[str, str] = {}
        self._keep = keep
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._keep:
                self._keep.mkdir(parents=True)  # an old one would be of another run
            prefix = "ocrfleet-chaos-"
            folder = self._keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
            folder.chmod(0o711)
            self.folder = folder
            store = {"OCRFLEET_STORE_URL": SETTINGS["OCRFLEET_STORE_URL"]}
            self.servers = stack.enter_context(Fleet(folder / "servers", services=(), extra=store))
            urls = self.servers.urls
            self.database_url, self.broker_url = urls["postgres"], urls["valkey"]
            services = ("api", "producer", *self.workers)
            near = {"OCRFLEET_DATABASE_URL": self.database_url, "OCRFLEET_BROKER_URL": self.broker_url}
            self.services = stack.enter_context(
                Fleet(folder / "services", engine="null", services=services, extra=self.settings | near)
            )
            self.url = self.services.urls["api"]
            self.broker_settings = Settings(broker_url=self.broker_url)
            self.record = Database(self.database_url, application="chaos", pool_size=4)
            stack.callback(self.record.close)
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        with self.record.transaction() as session:
            witness.install(session)
            for name in (*TENANTS, WHALE, PATIENT):
                tenants.create(session, name)
                self.keys[name] = tenants.create_key(session, tenant=name)

    def pid(self, name: str) -> int | None:
        """Of a server or a service, if it runs at the moment."""
        return self.servers.pids.get(name) or self.services.pids.get(name)


class FarSide:
    """A second producer and two more workers, that reach the servers through lines which break and go silent.

    Their object store has moods, their clocks are wrong, and they die at failpoints, each by a small probability.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lines = [
                stack.enter_context(TcpProxy(url)) for url in (self._rig.database_url, self._rig.broker_url)
            ]
            database, broker = self.lines
            self.store = stack.enter_context(FarStore(NullBlobs(0, numbered=True, missing=MISSING)))
            far = {
                "OCRFLEET_DATABASE_URL": database.url,
                "OCRFLEET_BROKER_URL": broker.url,
                "OCRFLEET_STORE_URL": self.store.url,
                "OCRFLEET_STORE_SECRET_KEY": "any",
                "OCRFLEET_STORE_TIMEOUT": "1",
                "OCRFLEET_FAILPOINTS": FAR_FAILPOINTS,
            }
            self.fleets = [
                stack.enter_context(
                    Fleet(
                        self._rig.folder / f"far-{services[0]}",
                        engine="null",
                        services=services,
                        extra=self._rig.settings | far | clock(skew),
                    )
                )
                for skew, services in FAR_CLOCKS.items()
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.lines:
            line.restore()
        self._stack.close()

    @property
    def deaths(self) -> int:
        """How often one of its processes has had to be started again."""
        restarts = 0
        for fleet in self.fleets:
            with suppress(FileNotFoundError):
                processes = json.loads(fleet.state.status.read_text())["processes"]
                restarts += sum(process["restarts"] for process in processes.values())
        return restarts
