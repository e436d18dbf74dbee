"""Fashion-MNIST: articles of clothing, 28x28 (Xiao, Rasul & Vollgraf 2017), in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets._mnist import from_idx
from benchmark.datasets.base import Dataset


def fashionmnist(root: Path) -> Dataset:
    """60,000 training images, 5,000 of them for validation, and 10,000 test images, in root/FashionMNIST/raw."""
    return from_idx("fashionmnist", "FashionMNIST", root)
