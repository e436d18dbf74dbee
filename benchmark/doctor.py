"""Is this installation sound? The clashes that users of this field meet, looked for one by one."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from benchmark.datasets.load import data_folder
from benchmark.storage import manifest

Verdict = Literal["ok", "note", "broken"]
Finding = tuple[str, Verdict, str]


def examine(data: Path | None) -> Iterator[Finding]:
    """(what, verdict, detail) of every check, as they are made."""
    installed = manifest.versions()
    yield (
        "versions",
        "ok",
        ", ".join(f"{name} {number}" for name, number in installed.items() if number),
    )
    yield from _importable()
    yield _torchattacks()
    yield _device()
    yield _data(data or data_folder())
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "disk", "ok" if free > 5 else "note", f"{free:.0f} GiB free in {Path.cwd()}"


def _importable() -> Iterator[Finding]:
    from benchmark import vision

    checks: dict[str, Callable[[], object]] = {
        "torch": lambda: __import__("torch"),
        "torchvision": vision.torchvision,
        "captum": lambda: __import__("captum.attr"),
        "pyautoattack": lambda: __import__("pyautoattack"),
        "robustbench": vision.robustbench,
    }
    for name, load in checks.items():
        try:
            load()
        except Exception as error:
            yield name, "broken", f"does not import: {type(error).__name__}: {error}"
        else:
            yield name, "ok", "imports"


def _torchattacks() -> Finding:
    """Its wheel brings an old copy of robustbench that overwrites the real one."""
    try:
        number = version("torchattacks")
    except PackageNotFoundError:
        return "torchattacks", "ok", "not installed (its wheel would overwrite robustbench)"
    return (
        "torchattacks",
        "broken",
        f"{number} overwrites the robustbench package: uninstall it, then reinstall robustbench",
    )


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return "device", "broken", "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return "device", "ok", f"cuda: {torch.cuda.get_device_name()}"
    return "device", "ok", f"cpu, {os.cpu_count()} cores"


def _data(root: Path) -> Finding:
    if not root.is_dir():
        return (
            "data",
            "note",
            f"{root} is not there: digits and planted need none, others are looked for there",
        )
    found = sorted(path.name for path in root.iterdir() if path.is_dir())
    return "data", "ok", f"{root}: {', '.join(found) or 'empty'}"
