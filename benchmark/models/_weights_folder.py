"""Where weights of third parties lie, and whether missing ones shall be downloaded. No torch."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """$BENCH_MODELS, or a folder in the user's cache."""
    if named := os.environ.get("BENCH_MODELS"):
        return Path(named).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "bridgebench" / "models"


def wanted() -> bool:
    """Whether weights that are not there shall be downloaded: BENCH_DOWNLOAD=1, as for data sets."""
    return os.environ.get("BENCH_DOWNLOAD") == "1"
