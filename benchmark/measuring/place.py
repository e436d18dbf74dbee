"""Where work is done, and on which images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from benchmark import keys
from benchmark.datasets.base import Dataset, Split
from benchmark.datasets.load import load
from benchmark.plan import DataSpec
from benchmark.store import Store


@dataclass(frozen=True)
class Place:
    """A run's folder, the root of downloaded data (none: the default), and the device."""

    folder: Path
    data: Path | None
    device: str
    results: str = ""
    """Where results are kept; "": where the folder says, or in it."""

    @property
    def store(self) -> Store:
        """The results of the run."""
        return Store(self.folder, self.results)


@dataclass(frozen=True)
class Prints:
    """Fingerprints of the images: `fit` of those that models are trained and chosen on, `test` of those they are
    measured on."""

    fit: str
    test: str


@lru_cache(maxsize=2)
def dataset(data: DataSpec, root: Path | None) -> Dataset:
    """The data set, cut to the images that are used."""
    full = load(data.name, root)
    if data.split == "validation":
        note = (
            "measured on training images that trainings here leave out (models of others may know them), not on the "
            "test images"
        )
        full = _on_held_out(replace(full, note="; ".join(filter(None, [full.note, note]))))
    # a run on few training images should not spend its time on validating them
    checked = None if data.train_limit is None else max(100, data.train_limit // 5)
    return replace(
        full,
        train=full.train[: data.train_limit],
        validation=full.validation[:checked],
        test=full.test[: data.limit],
    )


def _on_held_out(full: Dataset) -> Dataset:
    """Measured on one half of the images that are held out; by the other half the epoch to keep is chosen."""
    half = len(full.validation) // 2
    return replace(full, test=full.validation[:half], validation=full.validation[half:])


@lru_cache(maxsize=2)
def prints(data: DataSpec, root: Path | None) -> Prints:
    """The fingerprints of the images that are used."""
    used = dataset(data, root)
    return Prints(keys.key(_print(used.train), _print(used.validation)), _print(used.test))


def _print(split: Split) -> str:
    return keys.key(keys.tensor(split.x), keys.tensor(split.y), keys.tensor(split.ids))
