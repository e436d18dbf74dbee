"""What a data set is: three splits of images in [0, 1], a fingerprint, and what is known of their manifold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.errors import BenchError
from metrics.case import Manifold


class DataError(BenchError):
    """A data set is missing, incomplete or malformed; the message says where and what would be valid."""


@dataclass(frozen=True)
class Split:
    """Images float32 (n, C, H, W) in [0, 1], labels int64 (n,), and identities in the data set, int64 (n,)."""

    x: Tensor
    y: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: slice | Tensor) -> Split:
        return Split(self.x[index], self.y[index], self.ids[index])

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device."""
        return Split(self.x.to(device), self.y.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images that share none; `manifold` and `masks` only where the truth is known."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    note: str = ""
    """Anything a reader of the results must know ("train batch 1 of 5 only")."""
    manifold: Callable[[Split], Manifold] | None = None
    """The true manifold at the images of a split."""
    masks: Callable[[Split], Tensor] | None = None
    """The truly relevant pixels of the images of a split, bool (n, H, W)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """sha256 over the pixels and labels of the three splits, 16 hex digits."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(repr(tuple(split.x.shape)).encode())
            digest.update(split.x.contiguous().numpy().data)
            digest.update(split.y.contiguous().numpy().data)
        return digest.hexdigest()[:16]


Loader = Callable[[Path], Dataset]
"""A data set module's function: the root folder of downloaded data -> Dataset (raises DataError)."""
