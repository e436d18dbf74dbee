"""Worker processes of this machine: one thread each, and a GPU of its own for each while there are enough."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmark.executors.jobs import Failure, Outcome, attempt, failure
from benchmark.executors.schedule import Ticket
from benchmark.running.interrupts import held_back

_SPAWN = multiprocessing.get_context("spawn")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""How much processor time a container may have: microseconds, or "max", of so many."""


def usual(device: str) -> int:
    """How many workers there are unless somebody says another number: one per core, or per GPU."""
    if device != "cpu":
        return max(1, len(gpus(device)))
    mine = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if mine else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="utf-8").split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # nobody has set a bound
        return cores


def gpus(device: str) -> tuple[str, ...]:
    """The GPUs that workers share out among them, as CUDA names them: those visible here if the device is any."""
    if device != "cuda":  # cuda:1 is that one for all
        return ()
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(torch.cuda.device_count())))


@dataclass
class _Worker:
    gpu: str | None
    process: BaseProcess
    line: Connection
    ticket: Ticket | None = None


class Processes:
    """A fixed number of worker processes; one that dies is replaced."""

    one_machine = True

    def __init__(self, size: int, gpus: Sequence[str] = ()) -> None:
        self._workers = [_started(gpu) for gpu in islice(cycle(gpus or (None,)), size)]

    def room(self) -> int:
        """Workers without a job."""
        return sum(worker.ticket is None for worker in self._workers)

    def begin(self, ticket: Ticket) -> None:
        """Give a job to a free worker."""
        worker = next(worker for worker in self._workers if worker.ticket is None)
        worker.ticket = ticket
        with suppress(OSError):  # it died while idle: `ended` will see it
            worker.line.send_bytes(pickle.dumps(ticket.work))

    def ended(self) -> list[tuple[Ticket, Outcome | None]]:
        """Wait until a job has ended, or its worker."""
        busy = {worker.line: worker for worker in self._workers if worker.ticket}
        return [self._end(busy[line]) for line in wait(list(busy)) if isinstance(line, Connection)]

    def _end(self, worker: _Worker) -> tuple[Ticket, Outcome | None]:
        ticket, outcome = worker.ticket, None
        assert ticket is not None
        worker.ticket = None
        with suppress(EOFError, OSError):
            outcome = Outcome(ticket.job, *worker.line.recv())
        if outcome is None or (outcome.error and outcome.error.spoilt):
            _stop([worker])
            self._workers[self._workers.index(worker)] = _started(worker.gpu)
        return ticket, outcome

    def close(self) -> None:
        """End the workers now."""
        _stop(self._workers)


def _started(gpu: str | None) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(theirs, gpu))
    with held_back():  # a process that is cut off while it begins tells so at length
        process.start()
    theirs.close()  # so that its end is seen here
    return _Worker(gpu, process, ours)


def _work(line: Connection, gpu: str | None) -> None:
    """What a worker process does: job after job, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with suppress(EOFError):
        while True:
            line.send(_done(line.recv_bytes()))


def _done(content: bytes) -> tuple[Failure | None, float]:
    try:
        outcome = attempt(pickle.loads(content))
    except Exception as error:  # the job did not survive the way between processes
        return failure(error), 0.0
    return outcome.error, outcome.seconds


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()
        worker.line.close()
