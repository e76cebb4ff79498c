"""NOTIFY channels. A notification is a hint: every listener also polls."""

import asyncio
from collections.abc import AsyncGenerator

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.orm import Session

log = structlog.get_logger()

WORK = "ocrfleet_work"
"""The producer has something to do."""
JOB_DONE = "ocrfleet_job_done"
"""A job ended; the payload is its id."""
DELIVER = "ocrfleet_deliver"
"""A webhook's message waits to be sent."""
CANCEL = "ocrfleet_cancel"
"""Running pages of a job are to be aborted; the payload is its id."""


def notify(session: Session, channel: str, payload: str = "") -> None:
    """Tell the channel's listeners when this transaction commits."""
    session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload})


async def payloads(url: str, channel: str, application: str) -> AsyncGenerator[str]:
    """What is sent to the channel, for ever, over one connection and, when it breaks, the next.

    What is sent while there is none is missed.
    """
    conninfo = f"postgresql://{url.partition('://')[2]}"
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                conninfo,
                autocommit=True,
                application_name=application,
                connect_timeout=5,
                # A connection that only listens would never notice that the network is gone.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            ) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                async for notification in connection.notifies():
                    yield notification.payload
        except psycopg.Error as exc:
            log.warning("listen_failed", channel=channel, error=str(exc))
        await asyncio.sleep(1.0)
