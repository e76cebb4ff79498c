"""What a mutant is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands once in `file` and is replaced by `new`; `tests` are paths with names, as pytest takes them."""

    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
