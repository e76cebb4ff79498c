"""`ocrfleet webhooks`: who is told of what has ended, how that went, and sending it again."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Literal

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, put, put_json, put_table, reports_errors, say
from ocrfleet.cli.letter import short, time
from ocrfleet.client.webhooks import Delivery, Webhook
from ocrfleet.settings import settings

app = typer.Typer(no_args_is_help=True, help="Tell servers of yours what has ended.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WebhookId = Annotated[str, typer.Argument(help="As `webhooks ls` shows it.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="webhooks")


@app.command("ls")
@reports_errors
def ls(*, json: AsJson = False) -> None:
    """Every webhook, newest first."""
    with connect.api(settings()) as client:
        found = list(client.webhooks())
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([("id", "url", "events", "stands"), *map(_row, found)])


def _row(one: Webhook) -> tuple[str, ...]:
    stands = "enabled" if one["enabled"] else f"disabled: {one['fault']}" if one["fault"] else "disabled"
    return one["id"], one["url"], ",".join(one["events"]) or "all", short(stands)


@app.command("add")
@reports_errors
def add(
    url: Annotated[str, typer.Argument(help="https://, at a public address.")],
    *,
    event: Annotated[
        list[str] | None, typer.Option(help="Only this type, e.g. job.completed; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    json: AsJson = False,
) -> None:
    """Add one and print its secret, with which the receiver verifies what it is sent."""
    with connect.api(settings()) as client:
        made = client.create_webhook(url, events=event or (), description=description)
    _tell_secret(made, json=json)


@app.command("rotate")
@reports_errors
def rotate(webhook: WebhookId, *, json: AsJson = False) -> None:
    """Give it a new secret and print that; the old one signs too for 24 hours."""
    with connect.api(settings()) as client:
        made = client.rotate_webhook_secret(webhook)
    _tell_secret(made, json=json)


def _tell_secret(made: Webhook, *, json: bool) -> None:
    if json:
        put_json(made)
    else:
        put(made.get("secret", ""))
    say(f"webhook {made['id']}; keep its secret: it is not shown again")


@app.command("enable")
@reports_errors
def enable(webhook: WebhookId) -> None:
    """Send to it again; what it has missed, `replay` sends."""
    with connect.api(settings()) as client:
        client.update_webhook(webhook, enabled=True)
    say(f"enabled; `ocrfleet webhooks replay {webhook} --since …` sends what it has missed")


@app.command("rm")
@reports_errors
def rm(webhook: WebhookId) -> None:
    """Take one away, with its deliveries."""
    with connect.api(settings()) as client:
        client.delete_webhook(webhook)
    say("deleted")


@app.command("test")
@reports_errors
def try_out(webhook: WebhookId, *, json: AsJson = False) -> Exit:
    """Send it a `webhook.test` now, and print what it says; exit code 1 unless it takes it."""
    with connect.api(settings()) as client:
        answer = client.test_webhook(webhook)
    if json:
        put_json(answer)
    elif answer["delivered"]:
        put(f"delivered: {answer['status']} after {answer['milliseconds']:,} ms")
    else:
        put(f"{answer['error']}, after {answer['milliseconds']:,} ms")
    if answer["body"] and not json:
        put(answer["body"])
    return Exit.OK if answer["delivered"] else Exit.FAILED


@app.command("deliveries")
@reports_errors
def deliveries(
    webhook: WebhookId,
    *,
    state: Annotated[
        Literal["waiting", "delivered", "failed"] | None, typer.Option(help="Only those.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """What it was sent, newest first."""
    with connect.api(settings()) as client:
        each = client.deliveries(webhook, state=state, event=event, page_size=min(limit + 1, 500))
        found = list(islice(each, limit + 1))
    more, found = len(found) > limit, found[:limit]
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([("id", "event", "state", "tries", "made", "next", "why"), *map(_delivery, found)])
    if more:
        say("there are more: --limit")


def _delivery(one: Delivery) -> tuple[str, ...]:
    return (
        one["id"],
        one["event"],
        one["state"],
        str(one["attempts"]),
        time(one["created_at"]),
        time(one["next_at"]) if one["state"] == "waiting" else "-",
        short(one["error"]) or "-",
    )


@app.command("replay")
@reports_errors
def replay(
    webhook: WebhookId,
    *,
    delivery: Annotated[str | None, typer.Option(help="This one.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Those made then or later: ISO 8601, or so long ago as 90m, 36h, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Those made before then.")] = None,
    state: Annotated[Literal["failed", "delivered"], typer.Option(help="Those that stand so.")] = "failed",
) -> None:
    """Send again what it has missed, under the same message ids."""
    if (delivery is None) == (since is None):
        raise typer.BadParameter("say which: --delivery, or --since")
    with connect.api(settings()) as client:
        if delivery is not None:
            client.replay_delivery(webhook, delivery)
            replayed = 1
        else:
            replayed = client.replay_deliveries(
                webhook, since=_moment(since or ""), until=_moment(until) if until else None, state=state
            )
    say(f"sent again: {replayed:,}")


def _moment(given: str) -> str:
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if given[-1:] in units and given[:-1].isdecimal():
        return (datetime.now(UTC) - timedelta(**{units[given[-1]]: int(given[:-1])})).isoformat()
    return given
