"""What a run in progress tells others: who it is, what it is at, and how long its jobs have taken.

It stands in the folder `running/` of the run's folder, which goes when the run has ended. What a killed run left there
is told from a run in progress by the folder's lock, which nobody holds then. Nothing here ever fails a job.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.storage.manifest import now
from benchmark.store import StoreError, locked

_SECONDS = "seconds"


@dataclass(frozen=True)
class Run:
    """The run that has a folder's lock."""

    pid: int
    host: str
    command: str
    started: str
    workers: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.started}: {self.command}"


@dataclass(frozen=True)
class Note:
    """A job that is being done."""

    name: str
    title: str
    since: float
    """Seconds since 1970."""
    epoch: int = 0
    """Epochs of a training that are done."""
    epochs: int = 0
    """Of how many; 0 if that is not known."""
    spent: float = 0.0
    """Seconds of these epochs, those before an interruption included."""

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return max(0.0, time.time() - self.since)

    @property
    def rest(self) -> float | None:
        """Seconds for the epochs that are left; none if it tells nothing of epochs."""
        known = self.epoch and self.epochs
        return self.spent / self.epoch * max(0, self.epochs - self.epoch) if known else None


@contextmanager
def writing(folder: Path, command: str, workers: int) -> Iterator[None]:
    """The right to write into a folder; StoreError names the run that has it."""
    try:
        lock = locked(folder)
    except StoreError as error:
        raise StoreError(f"{error}{_holder(folder)}") from None
    with lock:
        _forget(folder)
        with suppress(OSError):
            (folder / "running").mkdir(exist_ok=True)
        me = Run(os.getpid(), socket.gethostname(), command, now(), workers)
        _put(folder / "running" / "run", asdict(me))
        try:
            yield
        finally:
            _forget(folder)
            with suppress(OSError):  # its seconds may not be in the manifest yet
                (folder / "running").rmdir()


def _forget(folder: Path) -> None:
    for path in (folder / "running").glob("*"):
        if path.name != _SECONDS:
            path.unlink(missing_ok=True)


def run_in(folder: Path) -> Run | None:
    """The run that is in progress in a folder, if there is one."""
    found = _get(folder / "running" / "run")
    return Run(**found) if found and _held(folder / ".lock") else None


def _held(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: its own word is all there is
        return True


def _holder(folder: Path) -> str:
    found = run_in(folder)
    return f" ({found})" if found else ""


def begun(folder: Path, name: str) -> bool:
    """Whether a job has begun in this run and was not noted to have ended."""
    return _path(folder, name, "note").is_file()


def begin(folder: Path, name: str, title: str) -> None:
    """A job begins."""
    _put(_path(folder, name, "note"), asdict(Note(name, title, time.time())))


def step(folder: Path, name: str, epochs: int) -> Callable[[Any], None]:
    """To be told every epoch of a training; noted once a second at most."""
    last = spent = 0.0

    def tell(epoch: Any) -> None:
        nonlocal last, spent
        spent += epoch.seconds
        path = _path(folder, name, "note")
        if time.monotonic() - last > 1 and (found := _get(path)):
            last = time.monotonic()
            told = replace(Note(**found), epoch=epoch.epoch + 1, epochs=epochs, spent=spent)
            _put(path, asdict(told))

    return tell


def notes(folder: Path) -> list[Note]:
    """The jobs that are being done, if a run is in progress; the longest first."""
    found = (_get(path) for path in (folder / "running").glob("*.note"))
    return sorted((Note(**note) for note in found if note), key=lambda note: note.since)


def say(folder: Path, name: str, line: str) -> None:
    """Keep something for the run to tell when the job has ended."""
    with suppress(OSError), _path(folder, name, "said").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def end(folder: Path, name: str, seconds: float | None) -> list[str]:
    """A job has ended, in these seconds if it did its work; returns what it had to say."""
    _path(folder, name, "note").unlink(missing_ok=True)
    with suppress(OSError):
        if seconds is not None:
            with (folder / "running" / _SECONDS).open("a", encoding="utf-8") as file:
                file.write(f"{name} {seconds:.3f}\n")
    said = _path(folder, name, "said")
    if not said.is_file():
        return []
    lines = said.read_text(encoding="utf-8").splitlines()
    said.unlink()
    return lines


def seconds(folder: Path) -> dict[str, float]:
    """Job -> seconds, of all that ended in this run, or in a killed one whose manifest does not know of them yet."""
    found = {}
    with suppress(OSError):
        for line in (folder / "running" / _SECONDS).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            with suppress(ValueError):  # a line that was cut
                found[name] = float(value)
    return found


def seconds_noted(folder: Path) -> None:
    """The manifest knows these seconds by now."""
    (folder / "running" / _SECONDS).unlink(missing_ok=True)


def _path(folder: Path, name: str, kind: str) -> Path:
    return folder / "running" / f"{name.replace('/', '-')}.{kind}"


def _put(path: Path, content: dict[str, Any]) -> None:
    """In one move, as somebody may read it now; without waiting for the disk, as a crash may take it."""
    with suppress(OSError):
        path.with_suffix(".new").write_text(json.dumps(content), encoding="utf-8")
        path.with_suffix(".new").replace(path)


def _get(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
