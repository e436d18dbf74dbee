"""Where jobs run: in this process, or in worker processes of one thread each.

On a CPU one process per core with one thread each is faster than one process with many threads, and one thread
everywhere makes results independent of how many there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """A piece of work: a function any process can import, its arguments, and the jobs whose results it reads."""

    name: str
    title: str
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is none if it did its work."""

    job: Job
    error: BaseException | None
    seconds: float


class Blocked(Exception):
    """A job was not started because a job that it needs failed."""


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
    failed: dict[str, BaseException] = {}
    for job in jobs:
        outcome = _blocked(job, failed) or _attempt(job)
        if outcome.error:
            failed[job.name] = outcome.error
        yield outcome


def _attempt(job: Job) -> Outcome:
    began = time.perf_counter()
    try:
        job.call(*job.arguments)
    except Exception as error:
        return Outcome(job, error, time.perf_counter() - began)
    return Outcome(job, None, time.perf_counter() - began)


def _blocked(job: Job, failed: dict[str, BaseException]) -> Outcome | None:
    for name in job.needs:
        if name in failed:
            cause = failed[name]
            reason = cause if isinstance(cause, Blocked) else Blocked(f"its model failed: {cause}")
            return Outcome(job, reason, 0.0)
    return None


@dataclass
class _Queue:
    """Jobs that wait, run and are done. A need that is no job of this run is in the store already."""

    waiting: list[Job]
    running: dict[Future[Outcome], Job] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)

    def ended(self, outcome: Outcome) -> Outcome:
        if outcome.error:
            self.failed[outcome.job.name] = outcome.error
        return outcome

    def ready(self) -> Job | None:
        """The first job none of whose needs waits or runs."""
        pending = {job.name for job in (*self.waiting, *self.running.values())}
        for job in self.waiting:
            if pending.isdisjoint(job.needs):
                self.waiting.remove(job)
                return job
        return None


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    queue = _Queue(list(jobs))
    pool, broken = _pool(workers), False
    try:
        while queue.waiting or queue.running:
            while not broken and len(queue.running) < workers and (job := queue.ready()):
                blocked = _blocked(job, queue.failed)
                if blocked:
                    yield queue.ended(blocked)
                else:
                    queue.running[pool.submit(_attempt, job)] = job
            for future in wait(queue.running, return_when=FIRST_COMPLETED).done:
                outcome = _outcome(future, queue.running.pop(future))
                broken |= isinstance(outcome.error, BrokenProcessPool)
                yield queue.ended(outcome)
            if (
                broken and not queue.running
            ):  # all that ran in it is lost; the others go on in a new one
                pool, broken = _pool(workers), False
    finally:
        _stop(pool)


def _outcome(future: Future[Outcome], job: Job) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(job, BrokenProcessPool("a worker process died (out of memory?)"), 0.0)


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
