"""What a generative engine gave back for a page, before anybody has read it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Generated:
    """The raw text; `tokens` are its pieces with their log-probabilities, empty where the engine tells none."""

    text: str
    finish_reason: str
    """`stop`, `length` (the token limit) or `repetition` (the engine saw a loop)."""
    tokens: Sequence[tuple[str, float]] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int = 0
