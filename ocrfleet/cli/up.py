"""`ocrfleet up`: the whole fleet on this machine until Ctrl-C."""

import sys
import threading
from typing import Annotated, Any

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, Interrupted, interruptible, put, put_json, reports_errors, say
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


@reports_errors
def up(
    *,
    engine: Annotated[str | None, typer.Option(help="OCR engine.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu:N for N engine processes, or a CUDA device.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON.")] = False,
) -> Exit:
    """Run the whole fleet on this machine, with Flower, until Ctrl-C."""
    chosen = {name: value for name, value in (("engine", engine), ("device", device)) if value}
    config = settings().model_copy(update=chosen)
    fleet, pause = connect.embedded(config, flower=True), threading.Event()
    say(f"starting the fleet in {config.state}")
    try:
        with interruptible():
            try:
                fleet.start()
                _announce(fleet, config, json=json)
                while fleet.supervisor:
                    pause.wait(0.5)
            finally:
                fleet.stop()
    except Interrupted:
        say("stopped")
        return Exit.OK
    say(f"error: the supervisor ended; see {fleet.state.logs / 'supervisor.log'}")
    return Exit.FAILED


def _announce(fleet: Fleet, config: Settings, *, json: bool) -> None:
    url, key = fleet.urls["api"], fleet.state.api_key
    s3 = fleet.urls.get("s3", config.store_url)
    places: dict[str, Any] = {
        "api": url,
        "docs": f"{url}/docs",
        "flower": fleet.urls["flower"],
        "s3": s3,
        "s3_access_key": fleet.environment["OCRFLEET_STORE_ACCESS_KEY"],
        "s3_secret_key": fleet.environment["OCRFLEET_STORE_SECRET_KEY"],
        "bucket": config.bucket,
        "key": key,
        "logs": str(fleet.state.logs),
    }
    if json:
        put_json(places)
    else:
        for name, value in places.items():
            put(f"{name.replace('_', ' '):<14} {value}")
        put("\nRead an image:")
        put(
            f"  curl -H 'Authorization: Bearer {key}' -F file=@samples/invoice-en.jpg -F task=text {url}/v1/ocr"
        )
        put("Ctrl-C stops everything.")
    sys.stdout.flush()
