"""Data sets that torchvision knows: whether their files are there, and getting them when the user asks for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from benchmark.datasets.base import DataError


def wanted() -> bool:
    """Whether data sets that are not there shall be downloaded."""
    return os.environ.get("BENCH_DOWNLOAD") == "1"


def missing(name: str, root: Path, files: list[str]) -> DataError:
    """The error for files that are not there."""
    return DataError(
        f"{name}: no {', '.join(files)} in {root}; BENCH_DOWNLOAD=1 has bench download it there, "
        "--data FOLDER or BENCH_DATA=FOLDER names another folder with torchvision's layout"
    )


def check_md5(path: Path, expected: str | None) -> None:
    """DataError unless the file is the one its authors published."""
    if expected is None:
        return
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if digest != expected:
        raise DataError(
            f"{path} is damaged or another file: md5 {digest}, expected {expected}; get it again"
        )
