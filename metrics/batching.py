"""Work on many images in slices: bounds memory, changes no result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from metrics.randomness import Draws

Made = TypeVar("Made")
_LOG = logging.getLogger(__name__)


def in_batches(
    function: Callable[..., Tensor], *tensors: Tensor | Draws, size: int = 250
) -> Tensor:
    """`function` over slices of the tensors (and draws), joined again.

    The slices are fixed by `size` alone, so rounding does not depend on how the work was shared out; they are smaller
    only where memory does not suffice (see `affordable`).
    """
    length = len(tensors[0].ids if isinstance(tensors[0], Draws) else tensors[0])
    return in_slices(lambda part: function(*(tensor[part] for tensor in tensors)), length, size)


def in_slices(compute: Callable[[slice], Tensor], length: int, size: int) -> Tensor:
    """What `compute` gives for the slices of `length` rows, `size` at a time, joined."""
    parts: list[Tensor] = []
    start, size = 0, min(size, length)

    def rows(count: int) -> Tensor:
        return compute(slice(start, start + count))

    while start < length or not parts:  # no rows are one empty slice
        part, size = affordable(rows, size)
        parts.append(part)
        start += size
    return torch.cat(parts)


def affordable(compute: Callable[[int], Made], size: int) -> tuple[Made, int]:
    """What `compute` gives for a batch of `size` rows, or of half as many until memory suffices; and how many it were.

    What is computed of a row does not depend on its batch but by the rounding of its last bits, and the random numbers
    of a `Draws` not at all. The error of a single row is raised.
    """
    while True:
        try:
            return compute(size), size
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        # not in the handler: the error's frames hold the tensors that did not fit
        size = (size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _LOG.warning("out of memory: goes on with batches of %d rows", size)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a GPU or of the machine, did not suffice."""
    known = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
    return known or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Predicted classes, shape (n,)."""
    return in_batches(lambda batch: model(batch).argmax(1), x)
