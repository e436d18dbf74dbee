"""CIFAR's pickled batches: which are there, whether they are the published ones, and what is in them.

File names and md5 sums are torchvision's; the reading is ours, since `pickle.load` runs whatever a file tells it to.
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import vision
from benchmark.datasets._files import check_md5, missing, wanted
from benchmark.datasets._splits import TEST_IDS, hold_out, pixels
from benchmark.datasets.base import DataError, Dataset, Split

_PER_FILE = 10_000
"""Images in a file of CIFAR-10; an image's id is its place among all files, whether they are there or not."""


def from_pickles(name: str, title: str, root: Path) -> Dataset:
    """The data set that torchvision calls `title`; training files may be missing, but not all of them."""
    source = getattr(vision.torchvision().datasets, title)
    if wanted():
        for is_train in (True, False):
            source(str(root), train=is_train, download=True)
    folder = root / source.base_folder
    present = [
        (place, *entry)
        for place, entry in enumerate(source.train_list)
        if (folder / entry[0]).is_file()
    ]
    needed = [*(entry[0] for entry in source.test_list), source.meta["filename"]]
    absent = [file for file in needed if not (folder / file).is_file()]
    if not present:
        absent.insert(0, source.train_list[0][0])
    if absent:
        raise missing(name, root, [f"{source.base_folder}/{file}" for file in absent])
    parts = [_batch(folder / file, md5, place * _PER_FILE) for place, file, md5 in present]
    test = _joined([_batch(folder / file, md5, TEST_IDS) for file, md5 in source.test_list])
    classes = tuple(_read(folder / source.meta["filename"], source.meta["md5"])[source.meta["key"]])
    everything = _joined(parts)
    note = _note([place + 1 for place, _, _ in present], len(source.train_list), len(everything))
    train, validation = hold_out(everything)
    return Dataset(name, classes, train, validation, test, note)


def _note(present: list[int], total: int, images: int) -> str:
    if len(present) == total:
        return ""
    plural = "es" if len(present) > 1 else ""
    return f"train batch{plural} {', '.join(map(str, present))} of {total} only: {images:,} training images"


def _joined(parts: list[Split]) -> Split:
    return Split(
        *(torch.cat([getattr(part, field) for part in parts]) for field in ("x", "y", "ids"))
    )


def _batch(path: Path, md5: str | None, first_id: int) -> Split:
    content = _read(path, md5)
    labels = content.get("labels", content.get("fine_labels"))
    data = content.get("data")
    if labels is None or not isinstance(data, np.ndarray) or data.shape != (len(labels), 3072):
        raise DataError(
            f"{path} does not hold n x 3072 pixels with n labels, as a CIFAR batch does"
        )
    images = torch.from_numpy(data.reshape(-1, 3, 32, 32))
    return Split(pixels(images), torch.tensor(labels), torch.arange(len(labels)) + first_id)


def _read(path: Path, md5: str | None) -> dict[str, Any]:
    """The mapping in a pickle that is the published file and needs nothing but arrays."""
    check_md5(path, md5)
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle fails in any way
        raise DataError(f"{path} is not a readable pickle: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, a CIFAR batch is a dict")
    return content


def _dtype(name: str, align: object = False, copy: object = False) -> np.dtype[Any]:
    """numpy.dtype, but an object array would let a file hold anything."""
    kind = np.dtype(name, bool(align), bool(copy))
    if kind.hasobject:
        raise DataError(f"refused: an array of {name!r} in a CIFAR file")
    return kind


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in an old pickle protocol."""
    if encoding != "latin1":
        raise DataError(f"refused: text encoded as {encoding!r} in a CIFAR file")
    return codecs.latin_1_encode(text)[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what CIFAR's files name, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The few functions that make an array."""
        reconstruct = np.empty(0).__reduce__()[0]
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in admitted:
            raise DataError(
                f"refused: the pickle would run {module}.{name}, which no CIFAR file needs"
            )
        return admitted[module, name]
