"""Where jobs run: in this process, in worker processes of one thread each, or on a Ray cluster.

Behind one function: (jobs, how many at once, device) -> the outcomes as they come. On a CPU one process per core with
one thread each is faster than one process with many threads, and one thread everywhere makes results independent of
how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

from benchmark.errors import BenchError
from benchmark.executors import here, processes
from benchmark.executors.jobs import Failure as Failure
from benchmark.executors.jobs import Job as Job
from benchmark.executors.jobs import Outcome as Outcome
from benchmark.executors.jobs import prepare as prepare
from benchmark.executors.schedule import scheduled

Execute = Callable[[Sequence[Job], int, str], Iterator[Outcome]]
"""(jobs, how many at once, device) -> the outcomes of the jobs, as they end."""
Name = Literal["processes", "ray"]


def execute(jobs: Sequence[Job], workers: int, device: str = "cpu") -> Iterator[Outcome]:
    """The outcomes of the jobs, as they end; a failed job stops only those that need it.

    One worker is this process itself, several are processes.
    """
    return here.execute(jobs) if workers == 1 else in_processes(jobs, workers, device)


def in_processes(jobs: Sequence[Job], workers: int, device: str) -> Iterator[Outcome]:
    """The outcomes of the jobs, by worker processes, each with a GPU of its own while there are enough.

    One worker is a process too: a job that kills it does not end the run.
    """
    return scheduled(jobs, lambda: processes.Processes(workers, processes.gpus(device)))


def chosen(
    name: Name, *, address: str | None, workers: int | None, device: str
) -> tuple[Execute, int]:
    """An executor and how many jobs it does at once: as many as `workers`, or as it has cores (or GPUs).

    ClusterError if there is no Ray, or no cluster at this address; BenchError for an address of no cluster.
    """
    if name == "processes":
        if address:
            raise BenchError(
                f"--address {address} is of a Ray cluster; give --executor ray with it"
            )
        return in_processes, workers or processes.usual(device)
    from benchmark.executors.cluster import connected
    from benchmark.executors.cluster import execute as on_nodes

    slots = connected(address, device)
    return partial(on_nodes, limit=workers), min(workers or slots, slots)
