"""A job's function with what every job does around it: it tells that it has begun, its warnings, and what it lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError, Unwritable, storage_ended
from benchmark.executors import Job
from benchmark.running import live

_LOGGERS = ("benchmark", "trainers", "metrics")


class OutOfMemory(BenchError):
    """A job does not fit into memory."""

    status = 1


def announced(job: Job, folder: Path) -> Job:
    """The job, known in the run's folder while it is done."""
    return replace(job, call=_Announced(folder, job.name, job.title, job.call))


@dataclass(frozen=True)
class _Announced:
    folder: Path
    name: str
    title: str
    call: Callable[..., None]

    def __call__(self, *arguments: Any) -> None:
        from metrics.batching import out_of_memory

        if live.begun(self.folder, self.name):
            live.say(self.folder, self.name, "its worker died; it was given out again")
        live.begin(self.folder, self.name, self.title)
        try:
            with _heard(self.folder, self.name):
                self.call(*arguments)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise OutOfMemory(f"out of memory: {_advice(self.name)} ({error})") from error
        except OSError as error:
            if not storage_ended(error):
                raise
            raise Unwritable(f"{error.strerror}: {error.filename}") from error


def _advice(name: str) -> str:
    if name.startswith("models/"):
        return "batches are part of a recipe and stay as they are; set a smaller batch_size in it, or fewer --workers"
    return "one image, or one batch of a retraining, is too much; set fewer --workers, or a smaller recipe.batch_size"


@contextmanager
def _heard(folder: Path, name: str) -> Iterator[None]:
    """Keep each warning that our code logs, once."""
    ear = _Ear(folder, name)
    loggers = [logging.getLogger(each) for each in _LOGGERS]
    for logger in loggers:
        logger.addHandler(ear)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(ear)


class _Ear(logging.Handler):
    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(logging.WARNING)
        self.folder, self.job = folder, name
        self.heard: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self.heard:
            self.heard.add(line)
            live.say(self.folder, self.job, line)
