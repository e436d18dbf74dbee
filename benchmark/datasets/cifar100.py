"""CIFAR-100: 32x32 colour photographs of a hundred classes (Krizhevsky 2009), in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets._cifar import from_pickles
from benchmark.datasets.base import Dataset


def cifar100(root: Path) -> Dataset:
    """50,000 training images, a tenth of them for validation, and 10,000 test images, in root/cifar-100-python."""
    return from_pickles("cifar100", "CIFAR100", root)
