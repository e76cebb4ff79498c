"""`python -m producer`: all that a producer does, in two processes; `python -m producer dispatch` is the second.

The two are apart so that a long expansion never delays the dispatcher by a held interpreter lock. Each loads what it
needs itself alone: how soon another leads when the leader is gone is how soon its process has started.
"""

import importlib
import signal
import sys
import threading

from ocrfleet import failpoints
from ocrfleet.settings import settings


def main(argv: list[str]) -> int:
    """`dispatch` is the child's role; without one, both run."""
    config = settings()
    failpoints.arm(config.failpoints)
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    role = "producer.leader" if argv[1:] == ["dispatch"] else "producer.service"
    return importlib.import_module(role).main(config, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
