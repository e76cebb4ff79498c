"""A broker that keeps what is published, and can be away or restarted at a test's word."""

from ocrfleet.messages import PageBatch
from producer.broker import BrokerUnavailable


class FakeBroker:
    """Stands where `producer.broker.Broker` does."""

    def __init__(self) -> None:
        self.published: list[PageBatch] = []
        self.fails_after: int | None = None
        """Messages that it still takes; None for all."""
        self.run_id = "first"
        self.empty = True
        self.is_away = False

    def publish(self, batch: PageBatch) -> None:
        if self.fails_after is not None:
            if self.fails_after == 0:
                raise BrokerUnavailable("no route to the broker")
            self.fails_after -= 1
        self.published.append(batch)

    def status(self) -> tuple[str, bool]:
        if self.is_away:
            raise BrokerUnavailable("no route to the broker")
        return self.run_id, self.empty

    def close(self) -> None:
        pass

    def drain(self) -> list[PageBatch]:
        """What was published since it was last asked."""
        taken, self.published = self.published, []
        return taken
