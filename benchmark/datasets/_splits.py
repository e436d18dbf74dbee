"""Splitting and shuffling by fixed seeds, and pixels as the models take them."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.datasets.base import Split
from metrics.randomness import Draws

TEST_IDS = 10_000_000
"""Ids of test images begin here, so that an image keeps its id when training files are added."""


def shuffled(count: int, purpose: str) -> Tensor:
    """A fixed permutation of 0 .. count-1."""
    return Draws(0, torch.arange(count)).fork(purpose).uniform(1).squeeze(1).argsort(stable=True)


def pixels(images: Tensor) -> Tensor:
    """uint8 images (n, C, H, W), or (n, H, W) of one channel, as float32 (n, C, H, W) in [0, 1]."""
    images = images[:, None] if images.dim() == 3 else images
    return images.float().div_(255)


def hold_out(train: Split) -> tuple[Split, Split]:
    """Training and validation images: a tenth, at most 5,000, chosen by a fixed seed; both in their former order."""
    count = len(train)
    held = torch.zeros(count, dtype=torch.bool)
    held[shuffled(count, "validation")[: min(max(count // 10, 1), 5000)]] = True
    return train[~held], train[held]
