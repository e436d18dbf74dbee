"""MNIST: handwritten digits, 28x28 (LeCun, Cortes & Burges 1998), in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets._mnist import from_idx
from benchmark.datasets.base import Dataset


def mnist(root: Path) -> Dataset:
    """60,000 training images, 5,000 of them for validation, and 10,000 test images, in root/MNIST/raw."""
    return from_idx("mnist", "MNIST", root)
