"""A tree of pictures, one folder a class, as torchvision's ImageFolder and ImageNet have it.

    root/train/<class>/*.png|jpg ...   root/test/<class>/...   (or root/val)

With both `val` and `test`, `val` is the validation split; otherwise a tenth of the training pictures is. Pictures are
RGB, and keep their size if all are equal squares of at most 224 pixels; otherwise each is cropped to its central
square and resized to 224. The whole set is held in memory: 600 kB a picture of 224 pixels. The
files come class by class; each split is in a fixed random order, so that its first N pictures are a sample of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmark.datasets._splits import TEST_IDS, hold_out, pixels, shuffled
from benchmark.datasets.base import DataError, Dataset, Split

_SIZE = 224
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_VALIDATION_IDS = TEST_IDS // 2


def folder(root: Path) -> Dataset:
    """The pictures under `root`, each split in a fixed random order."""
    parts = [part for part in ("train", "val", "test") if (root / part).is_dir()]
    if "train" not in parts or len(parts) < 2:
        found = (
            ", ".join(sorted(path.name for path in root.iterdir())[:5])
            if root.is_dir()
            else "no such folder"
        )
        raise DataError(
            f"folder: {root} needs train/ and test/ (or val/) with a folder for each class; found: {found}"
        )
    classes = _classes(root, parts)
    files = {part: _files(root / part, classes) for part in parts}
    size = _common_size([path for listed in files.values() for path, _ in listed])
    train = _mixed(_split(files["train"], size, 0), "folder")
    test = _mixed(_split(files[parts[-1]], size, TEST_IDS), "folder test")
    if len(parts) == 3:
        validation = _mixed(_split(files["val"], size, _VALIDATION_IDS), "folder validation")
    else:
        train, validation = hold_out(train)
    return Dataset(f"folder:{root}", classes, train, validation, test)


def _classes(root: Path, parts: list[str]) -> tuple[str, ...]:
    """The class folders, which must be the same in every part."""
    found = {
        part: {path.name for path in (root / part).iterdir() if path.is_dir()} for part in parts
    }
    if not found["train"]:
        raise DataError(f"folder: {root / 'train'} has no class folders in it")
    for part in parts:
        if differing := found[part] ^ found["train"]:
            raise DataError(
                f"folder: {root / part} and {root / 'train'} differ in the classes {', '.join(sorted(differing))}"
            )
    if len(found["train"]) == 1:
        raise DataError(
            f"folder: {root / 'train'} has one class, {', '.join(found['train'])}; a classifier needs two at least"
        )
    return tuple(sorted(found["train"]))


def _files(part: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The pictures of a part with their labels, by class and name."""
    listed = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (part / name).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not paths:
            raise DataError(
                f"folder: {part / name} has no pictures; valid: {', '.join(sorted(_SUFFIXES))}"
            )
        listed += [(path, label) for path in paths]
    return listed


def _common_size(paths: list[Path]) -> int:
    sizes = set()
    for path in paths:
        with _opened(path) as image:
            sizes.add(image.size)
    width, height = next(iter(sizes))
    return width if len(sizes) == 1 and width == height <= _SIZE else _SIZE


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"folder: {path} is not a readable picture: {error}") from error


def _split(files: list[tuple[Path, int]], size: int, first_id: int) -> Split:
    x = torch.stack([_pixels(path, size) for path, _ in files])
    return Split(
        pixels(x), torch.tensor([label for _, label in files]), torch.arange(len(files)) + first_id
    )


def _mixed(split: Split, purpose: str) -> Split:
    """The split in a fixed random order."""
    return split[shuffled(len(split), purpose)]


def _pixels(path: Path, size: int) -> torch.Tensor:
    """uint8 (3, size, size)."""
    with _opened(path) as image:
        try:
            square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged pixels
            raise DataError(f"folder: {path} is not a readable picture: {error}") from error
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)
