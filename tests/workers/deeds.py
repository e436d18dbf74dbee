"""What jobs do in tests of executors: functions that a worker process can import, from a folder on its path."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def die(path: Path, times: int) -> None:
    """Kill this process the first `times` times."""
    append(path, "x")
    if len(path.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def touch(path: Path) -> None:
    path.touch()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.is_file():
        assert time.monotonic() < deadline, f"nobody made {path}"
        time.sleep(0.01)


def hold(path: Path) -> None:
    """End with the worker only."""
    path.touch()
    time.sleep(3600)


def fail(path: Path) -> None:
    path.touch()
    raise ValueError("its own trouble")


def own_gpu(path: Path, jobs: int) -> None:
    """Note the GPU, and stay until so many jobs are at it, so that no worker does two."""
    append(path, os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\n")
    deadline = time.monotonic() + 30
    while len(path.read_text().splitlines()) < jobs:
        assert time.monotonic() < deadline
        time.sleep(0.01)
