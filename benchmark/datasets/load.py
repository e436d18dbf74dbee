"""A data set by its name, as suites and the command line write it."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from benchmark.datasets.base import DataError, Dataset, Loader
from benchmark.datasets.defaults import UnknownDataset, defaults


def load(name: str, root: Path | None = None) -> Dataset:
    """The data set `name` ("digits", "folder:PATH") from the folder `root` of downloaded data.

    Without `root`: $BENCH_DATA, or the user's cache. The last two are kept in memory. Raises DataError.
    """
    try:
        defaults(name)
    except UnknownDataset as error:
        raise DataError(str(error)) from None
    kind, _, path = name.partition(":")
    place = Path(path).expanduser() if path else root or data_folder()
    # the name stays as it was typed, the place is fixed: the working folder may change
    return replace(_load(kind, place.resolve(), os.environ.get("BENCH_DOWNLOAD")), name=name)


def data_folder() -> Path:
    """Where downloaded data are looked for and put."""
    if named := os.environ.get("BENCH_DATA"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bridgebench" / "data"


@lru_cache(maxsize=2)
def _load(kind: str, place: Path, download: str | None) -> Dataset:
    loader: Loader = getattr(import_module(f"benchmark.datasets.{kind}"), kind)
    return loader(place)
