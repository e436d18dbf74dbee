"""Where jobs run: in this process, or in worker processes of one thread each.

On a CPU one process per core with one thread each is faster than one process with many threads, and one thread
everywhere makes results independent of how many there are.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from benchmark.errors import IntegrityError


@dataclass(frozen=True)
class Job:
    """A piece of work: a function any process can import, its arguments, and the jobs whose results it reads."""

    name: str
    title: str
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in words: an exception itself might not survive the way between processes."""

    reason: str
    """One line: what an error of ours says, or the kind of any other and what it says."""
    damage: bool = False
    """A stored file was not what had been written."""
    trace: str = ""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is none if it did its work."""

    job: Job
    error: Failure | None
    seconds: float


def execute(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """The outcomes of the jobs, as they end; a failed job stops only those that need it."""
    return _in_processes(jobs, workers) if workers > 1 else _here(jobs)


def prepare() -> None:
    """Make this process one of the kind that jobs run in."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _here(jobs: Sequence[Job]) -> Iterator[Outcome]:
    prepare()
    failed: dict[str, Failure] = {}
    for job in jobs:
        outcome = _blocked(job, failed) or _attempt(job)
        if outcome.error:
            failed[job.name] = outcome.error
        yield outcome


def _attempt(job: Job) -> Outcome:
    began = time.perf_counter()
    error = None
    try:
        _clean_slate(job)
        with redirect_stdout(sys.stderr):  # stdout is for results
            job.call(*job.arguments)
    except KeyboardInterrupt as interrupt:
        if multiprocessing.parent_process() is None:
            raise
        error = _failure(interrupt)  # the user's goes to the parent; this one came from the job
    except (Exception, SystemExit) as problem:
        error = _failure(problem)
    return Outcome(job, error, time.perf_counter() - began)


def _clean_slate(job: Job) -> None:
    """Global state as in a new process: a method that leans on it repeats, and harms no other."""
    import numpy as np
    import torch

    seed = zlib.crc32(job.name.encode())
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _failure(error: BaseException) -> Failure:
    try:
        text = " ".join(str(error).split())
        trace = "".join(traceback.format_exception(error))
    except Exception:
        text, trace = "(its message cannot be shown)", ""
    ours = type(error).__module__.partition(".")[0] in ("benchmark", "trainers", "metrics")
    reason = text if ours and text else f"{type(error).__name__}: {text}"
    return Failure(reason, isinstance(error, IntegrityError), trace)


def _blocked(job: Job, failed: Mapping[str, Failure]) -> Outcome | None:
    """The outcome of a job that cannot begin because another failed; it fails for the first cause."""
    for name in job.needs:
        if name in failed:
            first = failed[name]
            return Outcome(job, Failure(f"its model failed: {first.reason}", first.damage), 0.0)
    return None


@dataclass
class _Queue:
    """Jobs that wait, run and are done. A need that is no job of this run is in the store already."""

    waiting: list[Job]
    suspects: list[Job] = field(default_factory=list)
    """Jobs that ran when a worker died: tried again, one at a time, to find the one that kills."""
    running: dict[Future[Outcome], Job] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)

    def submit(self, job: Job, pool: ProcessPoolExecutor) -> None:
        try:
            self.running[pool.submit(_attempt, job)] = job
        except BrokenProcessPool:
            self.waiting.insert(0, job)  # it never ran
            raise

    def ended(self, outcome: Outcome) -> Outcome:
        if outcome.error:
            self.failed[outcome.job.name] = outcome.error
        return outcome

    def ready(self, workers: int) -> Job | None:
        """A job that may start now."""
        if self.suspects:
            return None if self.running else self.suspects.pop(0)
        if len(self.running) >= workers:
            return None
        pending = {job.name for job in (*self.waiting, *self.running.values())}
        for job in self.waiting:
            if pending.isdisjoint(job.needs):
                self.waiting.remove(job)
                return job
        return None


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    queue = _Queue(list(jobs))
    pool = _pool(workers)
    try:
        while queue.waiting or queue.running or queue.suspects:
            try:
                while job := queue.ready(workers):
                    if blocked := _blocked(job, queue.failed):
                        yield queue.ended(blocked)
                    else:
                        queue.submit(job, pool)
                for future in wait(queue.running, return_when=FIRST_COMPLETED).done:
                    outcome = _outcome(future, queue.running[future])
                    del queue.running[future]
                    yield queue.ended(outcome)
            except BrokenProcessPool:
                # all jobs of a broken pool are lost; one of them killed its worker
                lost = list(queue.running.values())
                queue.running.clear()
                _stop(pool)
                pool = _pool(workers)
                if len(lost) == 1:
                    died = Failure("its worker process died (out of memory?)")
                    yield queue.ended(Outcome(lost[0], died, 0.0))
                else:
                    queue.suspects += lost
    finally:
        _stop(pool)


def _outcome(future: Future[Outcome], job: Job) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # the job or its outcome did not survive the way between processes
        return Outcome(job, _failure(error), 0.0)


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_become_worker)


def _become_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    prepare()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now; what they were writing is discarded."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
