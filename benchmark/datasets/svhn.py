"""SVHN: house numbers cut to 32x32 colour pixels (Netzer et al. 2011), in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark import vision
from benchmark.datasets._files import check_md5, missing, wanted
from benchmark.datasets._splits import TEST_IDS, hold_out, pixels
from benchmark.datasets.base import DataError, Dataset, Split


def svhn(root: Path) -> Dataset:
    """73,257 training images, 5,000 of them for validation, and 26,032 test images, in root/{train,test}_32x32.mat."""
    source = vision.torchvision().datasets.SVHN
    files = {part: source.split_list[part][1:] for part in ("train", "test")}
    absent = [file for file, _ in files.values() if not (root / file).is_file()]
    if absent and not wanted():
        raise missing("svhn", root, absent)
    splits = []
    for part, (file, md5) in files.items():
        if (root / file).is_file():
            check_md5(root / file, md5)
        try:
            content = source(str(root), split=part, download=wanted())
        except Exception as error:  # scipy reads the file and fails in any way where it is damaged
            raise DataError(f"svhn: {root / file} cannot be read: {error}") from error
        x, y = pixels(torch.from_numpy(content.data)), torch.from_numpy(content.labels)
        splits.append(Split(x, y, torch.arange(len(y)) + (0 if part == "train" else TEST_IDS)))
    train, validation = hold_out(splits[0])
    return Dataset("svhn", tuple(map(str, range(10))), train, validation, splits[1])
