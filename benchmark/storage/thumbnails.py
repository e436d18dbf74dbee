"""The test images of a run as its report shows them: their numbers, their labels, and the first of them, small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.datasets.base import Split
from benchmark.errors import IntegrityError
from benchmark.store import Store

COUNT = 60
"""How many are shown."""

_SIDE = 32
"""The most pixels of a side."""


def keep_images(store: Store, key: str, test: Split) -> None:
    """Keep them in the store, unless they are there; what an earlier version kept without thumbnails is replaced."""
    if store.has("images", key) and _complete(store, key):
        return
    shown = test.x[:COUNT]
    facts = {"ids": test.ids, "labels": test.y, "thumbnails": _small(shown)}
    store.save("images", key, facts, {"thumbnails": len(shown)})


def _complete(store: Store, key: str) -> bool:
    try:
        return bool(store.info("images", key).get("thumbnails"))
    except IntegrityError:
        return True  # told with the cells that need it


def _small(x: Tensor) -> Tensor:
    """Images of shape (n, C, H, W) in [0, 1] as bytes, of at most `_SIDE` pixels a side."""
    larger = max(x.shape[-2:]) / _SIDE
    if larger > 1:
        height, width = (max(1, round(side / larger)) for side in x.shape[-2:])
        x = F.adaptive_avg_pool2d(x, (height, width))
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
