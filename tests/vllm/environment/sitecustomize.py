"""Python imports this at its start: the torchvision of PyPI is built for CUDA, and vLLM does not start without one.

Its library cannot be loaded beside a torch for CPUs, and its import then fails for want of an operator's declaration.
The operator is declared just before; whatever OCR needs of torchvision is Python.
"""

# ruff: noqa: ANN401

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:  # noqa: ARG002
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare()


def _declare() -> None:
    import torch
    from torch import library as operators

    declared = operators.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # The declaration lasts as long as this object.
    torch._torchvision_declared = declared  # type: ignore[attr-defined]


sys.meta_path.insert(0, _BeforeTorchvision())
