"""Weights that are not there: fetched if the user asks for it, and kept only if they are weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmark import vision
from benchmark.models import _files, _weights_folder
from benchmark.models.base import ModelError
from benchmark.storage.atomic import write_atomically

Get = Callable[[Path], object]
"""Puts a file at a path."""


def ensure(path: Path, source: str, get: Get | None = None) -> None:
    """Have the file at the path, by `get` unless it is there; `source` is the address where a person would get it.

    What arrives takes the path's name only if it can be read as a checkpoint: a page that says "quota exceeded", or
    half a file, is never met again by the next run.
    """
    if path.is_file():
        return
    if not _weights_folder.wanted():
        raise ModelError(
            f"{path} does not exist; put the file from {source} there, or BENCH_DOWNLOAD=1 has bench download it"
        )

    def fetch(target: Path) -> None:
        try:
            with vision.quiet():
                (get or by_address(source))(target)
        except Exception as error:  # each library of downloads has errors of its own
            raise ModelError(
                f"cannot be downloaded from {source} ({reason(error)}); put the file at {path} by hand"
            ) from None
        try:
            _files.load(target)
        except ModelError as error:
            raise ModelError(
                f"the download from {source} {error}; nothing was kept; put the file at {path} by hand"
            ) from None

    write_atomically(path, fetch)


def by_address(url: str) -> Get:
    """Puts the file of an address at a path, checked by the digest that its name may hold."""
    digest = torch.hub.HASH_REGEX.search(url.rpartition("/")[2])
    return lambda path: torch.hub.download_url_to_file(
        url, str(path), digest[1] if digest else None, progress=False
    )


def reason(error: Exception) -> str:
    """What another library's error says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
