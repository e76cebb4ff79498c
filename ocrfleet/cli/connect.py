"""What a command talks to: the servers that the settings name, else those of the fleet in the state folder."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from ocrfleet import blobs
from ocrfleet.cli.bulk import Place
from ocrfleet.cli.console import say
from ocrfleet.client import Client, UnreachableError
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.embedded.state import State
from ocrfleet.errors import StateInUse
from ocrfleet.settings import Settings

SERVERS = (
    "database_url",
    "broker_url",
    "store_url",
    "store_access_key",
    "store_secret_key",
    "store_region",
    "bucket",
)
"""Settings that, where the user made them, put a server of theirs in the place of an embedded one."""
OTHER_STARTS = 60.0
OWN_ATTEMPTS, OTHERS_ATTEMPTS = 8, 6
"""Ours comes back when it dies; another's may have gone for good, and then ours takes its place."""


def servers(settings: Settings) -> Settings:
    """The settings, completed with the addresses and secrets of the state folder's servers."""
    state = State(settings.state)
    ports = state.ports
    known = {"url": state.api_url, "api_key": state.api_key} if state.api_url and not settings.url else {}
    if "postgres" in ports:
        address = f"127.0.0.1:{ports['postgres']}/ocrfleet"
        known["database_url"] = f"postgresql://ocrfleet:{state.secret('postgres')}@{address}"
    if "valkey" in ports:
        known["broker_url"] = f"redis://:{state.secret('valkey')}@127.0.0.1:{ports['valkey']}/0"
    if "s3" in ports and "store_url" not in settings.model_fields_set:
        known["store_url"] = f"http://127.0.0.1:{ports['s3']}"
        known |= {"store_access_key": "ocrfleet", "store_secret_key": state.secret("s3")}
    return Settings.model_validate(known | settings.model_dump(include=settings.model_fields_set))


def api(settings: Settings, *, attempts: int = 8) -> Client:
    """A client of the API that the settings name, else of the fleet in the state folder."""
    known = servers(settings)
    if not known.url:
        raise UnreachableError(f"no fleet has run in {settings.state}")
    return Client(known.url, known.api_key.get_secret_value(), attempts=attempts)


def embedded(settings: Settings, *, flower: bool = False) -> Fleet:
    """The fleet of the state folder, not started."""
    extra = {
        f"OCRFLEET_{name.upper()}": str(value)
        for name, value in settings.model_dump(include=settings.model_fields_set & set(SERVERS)).items()
    }
    key = settings.store_secret_key.get_secret_value()
    if "OCRFLEET_STORE_SECRET_KEY" in extra:
        extra["OCRFLEET_STORE_SECRET_KEY"] = key
    return Fleet(settings.state, engine=settings.engine, device=settings.device, flower=flower, extra=extra)


@contextmanager
def place(settings: Settings) -> Generator[Place]:
    """A fleet for one command: started and stopped, unless one runs in the state folder already."""
    fleet = _start_or_find(settings)
    try:
        state, known = State(settings.state), servers(settings)
        with Client(
            state.api_url, state.api_key, attempts=OWN_ATTEMPTS if fleet else OTHERS_ATTEMPTS
        ) as client:
            yield Place(client, blobs.connect(known), known.bucket, ours=fleet is not None)
    finally:
        if fleet:
            say("stopping the fleet (Ctrl-C: without waiting for the pages under way)")
            fleet.stop()


def _start_or_find(settings: Settings) -> Fleet | None:
    """Our own fleet, or None when another process runs one that answers; waits for one that starts or stops."""
    pause, begun = threading.Event(), time.monotonic()
    say(f"starting the fleet in {settings.state}")
    while True:
        fleet = embedded(settings)
        try:
            fleet.start()
        except StateInUse:
            if _answers(settings):
                say("a fleet runs there already: it is used, with its own engine and device")
                return None
            if time.monotonic() - begun > OTHER_STARTS:
                raise
            pause.wait(0.5)
        except BaseException:
            fleet.stop()
            raise
        else:
            return fleet


def _answers(settings: Settings) -> bool:
    state = State(settings.state)
    try:
        with Client(state.api_url or "http://127.0.0.1:9", state.api_key) as client:
            return "checks" in client.ready()
    except UnreachableError:
        return False
