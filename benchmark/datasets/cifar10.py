"""CIFAR-10: 32x32 colour photographs of ten classes (Krizhevsky 2009), in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets._cifar import from_pickles
from benchmark.datasets.base import Dataset


def cifar10(root: Path) -> Dataset:
    """50,000 training images, a tenth of them for validation, and 10,000 test images, in root/cifar-10-batches-py.

    Loads with some of the five training files only, and says so in its note.
    """
    return from_pickles("cifar10", "CIFAR10", root)
