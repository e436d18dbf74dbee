"""Data sets in MNIST's four idx files, read by torchvision."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark import vision
from benchmark.datasets._files import missing, wanted
from benchmark.datasets._splits import TEST_IDS, hold_out, pixels
from benchmark.datasets._strokes import strokes
from benchmark.datasets.base import DataError, Dataset, Split


def from_idx(name: str, title: str, root: Path) -> Dataset:
    """The data set that torchvision calls `title`."""
    source = getattr(vision.torchvision().datasets, title)
    if not wanted():
        _check_files(
            name, root, [Path(title, "raw", Path(file).stem) for file, _ in source.resources]
        )
    splits = []
    for is_train in (True, False):
        try:
            part = source(str(root), train=is_train, download=wanted())
        except Exception as error:  # an idx file that is cut short fails in several ways
            raise DataError(
                f"{name}: the files in {root / title} cannot be read: {error}"
            ) from error
        x, y = pixels(part.data), part.targets.long()
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} images but {len(y)} labels in {root / title}")
        splits.append(Split(x, y, torch.arange(len(y)) + (0 if is_train else TEST_IDS)))
    train, validation = hold_out(splits[0])
    return Dataset(name, tuple(part.classes), train, validation, splits[1], masks=strokes)


def _check_files(name: str, root: Path, files: list[Path]) -> None:
    absent = [file.as_posix() for file in files if not (root / file).is_file()]
    if absent:
        raise missing(name, root, absent)
