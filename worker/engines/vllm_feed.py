"""How many pages the engine `vllm` wants: as many as run, and a few that wait so that it never idles."""

from dataclasses import dataclass

_AHEAD_SHARE = 4
_MIN_AHEAD = 4
_FULL = 0.9
"""Share of the KV cache in use above which pages that wait do so for want of room."""


@dataclass(frozen=True, slots=True)
class Load:
    """The engine's own figures after its last step."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    """Share of the KV cache in use."""


def ahead(max_sequences: int) -> int:
    """Pages beyond those that run: in preparation, or waiting in the engine."""
    return max(_MIN_AHEAD, max_sequences // _AHEAD_SHARE)


def wanted(load: Load, max_sequences: int) -> int:
    """Pages that should be inside, in preparation or in the engine.

    Each page that begins makes room for another, until `max_sequences` run. While a full cache keeps pages waiting, more
    of them would only hold memory: the number falls to a few above those that run, and below as those end.
    """
    running = min(load.running, max_sequences)
    if load.waiting and load.cache_usage >= _FULL:
        return running + max(1, ahead(max_sequences) // 4)
    return running + ahead(max_sequences)
