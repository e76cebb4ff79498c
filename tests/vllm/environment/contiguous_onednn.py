"""A vLLM plugin: oneDNN's matrix product refuses the permuted view that HunYuanVL's patch merger gives it."""

# ruff: noqa: ANN401

from typing import Any


def register() -> None:
    """Make the input contiguous; vLLM calls this in each of its processes, maybe twice."""
    import vllm._custom_ops as ops

    product = ops.onednn_mm
    if getattr(product, "contiguous", False):
        return

    def onednn_mm(handler: Any, x: Any, bias: Any) -> Any:
        return product(handler, x.contiguous(), bias)

    onednn_mm.contiguous = True  # type: ignore[attr-defined]
    ops.onednn_mm = onednn_mm
