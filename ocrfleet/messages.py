"""Names and messages on the broker. A message is a doorbell: ids and fences, safe to lose or repeat."""

from dataclasses import dataclass, replace
from typing import Any, Self

from ocrfleet.states import Lane

TASK = "ocr.pages"
"""The one Celery task; Flower shows it with its batch id, lane and page count."""
QUEUES = {Lane.BULK: "ocr.bulk", Lane.INTERACTIVE: "ocr.interactive"}
VERSION = 1


def transport_options(socket_timeout: float) -> dict[str, Any]:
    """Options of kombu's Redis transport; the producer uses a shorter `socket_timeout` (seconds)."""
    return {
        "visibility_timeout": 3600,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": min(3.0, socket_timeout),
        "socket_keepalive": True,
        "health_check_interval": 5,
    }


@dataclass(frozen=True, slots=True)
class PageBatch:
    """Pages to claim, each with the fence under which it was dispatched."""

    batch_id: int
    lane: Lane
    pages: list[tuple[int, int]]
    """(page id, fence), ascending by id."""
    exclusive: bool = False
    """Its pages are suspected of killing workers: theirs runs them one after the other, and nothing beside them."""

    def turns(self) -> "list[PageBatch]":
        """What may be claimed at once, in order: all of it, or each page of an exclusive batch by itself."""
        return [replace(self, pages=[page]) for page in self.pages] if self.exclusive else [self]

    def to_message(self) -> dict[str, Any]:
        """The task's keyword arguments, small enough for Flower to show."""
        return {
            "v": VERSION,
            "batch": self.batch_id,
            "lane": self.lane.value,
            "exclusive": self.exclusive,
            "pages": [list(page) for page in self.pages],
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """Read what `to_message` wrote; ValueError for a version this code does not know."""
        if message["v"] != VERSION:
            msg = f"message version {message['v']}, this worker reads {VERSION}"
            raise ValueError(msg)
        pages = [(int(page), int(fence)) for page, fence in message["pages"]]
        return cls(int(message["batch"]), Lane(message["lane"]), pages, bool(message["exclusive"]))
