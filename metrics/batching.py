"""Work on many images in slices: bounds memory, changes no result."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metrics.randomness import Draws


def in_batches(
    function: Callable[..., Tensor], *tensors: Tensor | Draws, size: int = 250
) -> Tensor:
    """`function` over slices of the tensors (and draws), joined again.

    The slices are fixed by `size` alone, so rounding does not depend on how the work was shared out.
    """
    length = len(tensors[0].ids if isinstance(tensors[0], Draws) else tensors[0])
    parts = [slice(start, start + size) for start in range(0, length, size)]
    return torch.cat([function(*(tensor[part] for tensor in tensors)) for part in parts])


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Predicted classes, shape (n,)."""
    return in_batches(lambda batch: model(batch).argmax(1), x)
