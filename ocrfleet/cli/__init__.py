"""The command line: one module per noun, of which a call imports only the one it needs."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as distribution_version
from typing import Annotated

import typer

COMMANDS = {
    "run": "Read files and folders on this machine; needs no service.",
    "up": "Run the whole fleet on this machine until Ctrl-C.",
    "submit": "Submit objects or local files as a job.",
    "upload": "Upload files and folders; prints manifest lines.",
    "jobs": "List, show, watch and control jobs.",
    "tasks": "List what can be done with a page.",
    "dlq": "List dead letters, run them again, give them up.",
    "results": "Print a job's results as JSON lines.",
    "export": "Write a job's results to a bucket as files.",
    "workers": "List workers; start one per GPU of this host.",
    "webhooks": "Tell servers of yours what has ended.",
    "rules": "Read what is put into a bucket, unasked.",
    "bucket-rules": "Let the store tell of what a rule is for.",
    "events": "See what stores tell of their buckets.",
    "doctor": "Check this machine and say how to repair what is wrong.",
    "keys": "List, make and revoke API keys.",
    "tenants": "List, make and change tenants: shares, quotas, rates.",
    "migrate": "Bring the database's schema to the newest revision.",
}
"""Every command with its line of `--help`; its module ocrfleet.cli.<command> has `register(app)`."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The app for one call: the command asked for is whole, of the others only their help is there."""
    app = typer.Typer(
        name="ocrfleet",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    asked = arguments[0] if arguments else ""
    for name, help_line in COMMANDS.items():
        if name == asked:
            module = importlib.import_module(f"ocrfleet.cli.{name.replace('-', '_')}")
            register: Callable[[typer.Typer], None] = module.register
            register(app)
        else:
            app.command(name, help=help_line)(_elsewhere)
    return app


def main() -> None:
    """The console script."""
    build(sys.argv[1:])(prog_name="ocrfleet")


def _show_version(asked: bool) -> None:  # noqa: FBT001  called so by typer
    if asked:
        typer.echo(f"ocrfleet {distribution_version('ocrfleet')}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Bulk OCR on a fleet of GPUs, or on this machine. Data goes to stdout, progress to stderr."""


def _elsewhere() -> None:
    """Stands for a command that this call does not run."""
