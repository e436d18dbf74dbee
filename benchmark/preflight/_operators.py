"""The convolutions and matrix products of a forward pass, whoever calls them.

A layer tells when it is used; a network that is kept in a plain list, and a function, do not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WEIGHT = {
    "aten::convolution": 1, "aten::conv1d": 1, "aten::conv2d": 1, "aten::linear": 1, "aten::matmul": 1,
    "aten::mm": 1, "aten::bmm": 1, "aten::addmm": 2,
}  # fmt: skip
"""Operator -> which of its arguments is the weight."""


class Weight(NamedTuple):
    """What an operator multiplied with, told by its content: casts and computed weights are copies at every use."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    total: float
    norm: float


class Operators(TorchDispatchMode):
    """Notes, in order, the weight of each such operator that runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Weight] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _WEIGHT.get(func._schema.name, len(args))
        if place < len(args):
            self.weights.append(_weight(args[place]))
        return func(*args, **(kwargs or {}))


def _weight(used: Tensor) -> Weight:
    values = used.detach().float()
    return Weight(used.dtype, tuple(used.shape), float(values.sum()), float(values.norm()))
