"""Handwritten digits of 8x8 pixels and 16 grey levels, bundled with scikit-learn and so always there.

Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI (its test part, 1,797 images).
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmark.datasets._splits import shuffled
from benchmark.datasets._strokes import strokes
from benchmark.datasets.base import Dataset, Split

_SHARES = (0.6, 0.7)
"""Where, in each class, training ends and validation ends."""


def digits(root: Path) -> Dataset:
    """60% training, 10% validation, 30% test images of every class; nothing is read from `root`."""
    bunch = load_digits()
    x = torch.from_numpy(bunch.images).float()[:, None] / 16
    y = torch.from_numpy(bunch.target).long()
    everything = Split(x, y, torch.arange(len(y)))
    assert len(x.flatten(1).unique(dim=0)) == len(x), (
        "no image is there twice, so none can be in two splits"
    )
    train, validation, test = (everything[part] for part in _stratified(y))
    return Dataset("digits", tuple(map(str, range(10))), train, validation, test, masks=strokes)


def _stratified(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the three splits, in one fixed random order."""
    order = shuffled(len(y), "digits")
    splits: tuple[list[Tensor], ...] = ([], [], [])
    for label in range(10):
        members = order[y[order] == label]
        first, second = (round(share * len(members)) for share in _SHARES)
        for split, part in zip(splits, members.tensor_split((first, second)), strict=True):
            split.append(part)
    rank = order.argsort()
    train, validation, test = (_by(torch.cat(split), rank) for split in splits)
    return train, validation, test


def _by(index: Tensor, rank: Tensor) -> Tensor:
    """The indices in the order of their ranks."""
    return index[rank[index].argsort()]
