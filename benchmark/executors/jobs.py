"""A job, how it ended, and what every worker does with one, whatever started it."""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import IntegrityError, Unwritable


@dataclass(frozen=True)
class Job:
    """A piece of work: a function any process can import, its arguments, and the jobs whose results it reads."""

    name: str
    title: str
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    help: Callable[..., None] | None = None
    """What a worker that has nothing else to do may call beside it, with the same arguments, to do a part of it."""
    fits: str = ""
    """What the first job of that name makes for all of them: whoever begins beside it waits for it."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in words: an exception itself might not survive the way between processes."""

    reason: str
    """One line: what an error of ours says, or the kind of any other and what it says."""
    damage: bool = False
    """A stored file was not what had been written."""
    trace: str = ""
    unwritable: bool = False
    """Results cannot be written any more: no other job could keep its own."""
    spoilt: bool = False
    """Its process cannot do another job: a GPU that has met an error fails whatever comes next."""
    cause: str = ""
    """The job that failed first and that this one needs; empty if this is the one that failed."""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is none if it did its work."""

    job: Job
    error: Failure | None
    seconds: float


def prepare() -> None:
    """Make this process one of the kind that jobs run in."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # PyTorch lets convolutions round to ten bits; a recipe that may be less exact says bfloat16
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def attempt(job: Job, *, own_interrupt: bool = False) -> Outcome:
    """Do a job. `own_interrupt`: a KeyboardInterrupt is the user's and goes on; else the job itself has raised it."""
    began = time.perf_counter()
    error = None
    try:
        _clean_slate(job)
        with _back_again(), redirect_stdout(sys.stderr):  # stdout is for results
            job.call(*job.arguments)
    except KeyboardInterrupt as interrupt:
        if own_interrupt:
            raise
        error = failure(interrupt)
    except (Exception, SystemExit) as problem:
        error = failure(problem)
    return Outcome(job, error, time.perf_counter() - began)


def _clean_slate(job: Job) -> None:
    """Global state as in a new process: a method that leans on it repeats, and harms no other."""
    import numpy as np
    import torch

    seed = zlib.crc32(job.name.encode())
    prepare()
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def _back_again() -> Iterator[None]:
    """Whatever becomes the working directory within the block, afterwards it is the one before."""
    before = Path.cwd()
    try:
        yield
    finally:
        os.chdir(before)


def failure(error: BaseException) -> Failure:
    """An exception in words."""
    try:
        text = " ".join(str(error).split())
        trace = "".join(traceback.format_exception(error))
    except Exception:
        text, trace = "(its message cannot be shown)", ""
    ours = type(error).__module__.partition(".")[0] in ("benchmark", "trainers", "metrics")
    reason = text if ours and text else f"{type(error).__name__}: {text}"
    return Failure(
        reason, isinstance(error, IntegrityError), trace, isinstance(error, Unwritable),
        spoilt="CUDA error" in text,
    )  # fmt: skip


def blocked(job: Job, failed: Mapping[str, Failure]) -> Outcome | None:
    """The outcome of a job that cannot begin because another failed; it fails for the first cause."""
    for name in job.needs:
        if name in failed:
            first = failed[name]
            reason = f"its model failed: {first.reason}"
            return Outcome(job, Failure(reason, first.damage, cause=first.cause or name), 0.0)
    return None
