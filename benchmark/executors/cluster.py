"""Jobs on a Ray cluster: several machines, several GPUs. Ray is imported once it is asked for.

Every node needs this package and sees the run's folder, the data and the user's own files under the same paths, as on a
shared file system. Ray assigns a core, or a GPU, to each job and finds it a node; how often a job is tried is our rule.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError
from benchmark.executors.jobs import Failure, Job, Outcome, attempt, failure
from benchmark.executors.schedule import Ticket, scheduled

_SECONDS = 2.0
"""How often it is looked whether nodes have come or gone."""
_LOOKS = 300
"""How often in turn there may be no node at all."""


class ClusterError(BenchError):
    """There is no Ray, or not the cluster that was asked for."""


class ClusterGone(ClusterError):
    """All nodes have left a run, and none has come."""

    status = 1


def connected(address: str | None, device: str) -> int:
    """Connect to the cluster at an address ("auto": one that runs on this machine), or start one of this machine alone.

    Returns how many jobs it does at once.
    """
    ray = _ray()
    if ":" in device:
        raise ClusterError(f"--device {device}: Ray assigns the GPUs; valid are auto, cpu, cuda")
    if not ray.is_initialized():
        try:
            with _sigterm_kept():
                ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ClusterError(f"no Ray cluster at {address}: {reason}") from None
    slots = _slots(device)
    if not slots:
        raise ClusterError(f"no node of the Ray cluster has a {_resource(device)}")
    return slots


def execute(
    jobs: Sequence[Job], workers: int, device: str, *, limit: int | None = None
) -> Iterator[Outcome]:
    """The outcomes of the jobs, by the nodes that are there at any time; `limit` jobs at once at most.

    Disconnects at the end.
    """
    with redirect_stdout(sys.stderr):  # Ray prints what becomes of its nodes; stdout is for results
        try:
            yield from scheduled(jobs, lambda: _Nodes(device, limit))
        finally:
            _ray().shutdown()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray sets a handler that ends the process at once; ours stops the run in order."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere Ray sets none
            signal.signal(signal.SIGTERM, before)


def _ray() -> Any:
    # usage is reported to its makers unless this is said
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError('--executor ray needs Ray: pip install "bridgebench[ray]"') from None
    return ray


def _resource(device: str) -> str:
    return "CPU" if device == "cpu" else "GPU"


def _slots(device: str) -> int:
    return int(_ray().cluster_resources().get(_resource(device), 0))


class _Nodes:
    """The nodes of the cluster, as many as there are at the moment."""

    one_machine = False

    def __init__(self, device: str, limit: int | None) -> None:
        self._ray, self._device, self._limit = _ray(), device, limit
        asked = {"num_cpus": 1} if device == "cpu" else {"num_cpus": 0, "num_gpus": 1}
        # a lost job is given out again by the schedule, which counts
        self._begin = self._ray.remote(**asked, max_retries=0)(_work).remote
        own = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
        self._surroundings = (str(Path.cwd()), own)
        self._running: dict[Any, Ticket] = {}
        self._alone = 0

    def room(self) -> int:
        """Cores or GPUs without a job."""
        slots = _slots(self._device)
        return min(slots, self._limit or slots) - len(self._running)

    def begin(self, ticket: Ticket) -> None:
        """Have a node do a job."""
        self._running[self._begin(pickle.dumps(ticket.work), *self._surroundings)] = ticket

    def ended(self) -> list[tuple[Ticket, Outcome | None]]:
        """What has ended, after a while."""
        if not self._running:  # all nodes are gone: others may come
            self._await_nodes()
            return []
        self._alone = 0
        ready, _ = self._ray.wait(list(self._running), timeout=_SECONDS)
        return [self._end(reference) for reference in ready]

    def _await_nodes(self) -> None:
        lacks = f"no node of the Ray cluster has a {_resource(self._device)}"
        minutes = _LOOKS * _SECONDS / 60
        if not self._alone:
            print(f"{lacks} any more; waits {minutes:.0f} min for one", file=sys.stderr)
        self._alone += 1
        if self._alone > _LOOKS:
            raise ClusterGone(
                f"{lacks} since {minutes:.0f} min. What is finished is kept: when there are nodes, continue with the "
                "same command"
            )
        time.sleep(_SECONDS)

    def _end(self, reference: Any) -> tuple[Ticket, Outcome | None]:
        ticket = self._running.pop(reference)
        try:
            error, seconds = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as problem:
            error, seconds = failure(problem.cause), 0.0
        except self._ray.exceptions.RayError:
            return ticket, None  # its worker or its node died
        return ticket, Outcome(ticket.job, error, seconds)

    def close(self) -> None:
        """End what runs."""
        left = list(self._running)
        for reference in left:
            self._ray.cancel(reference, force=True)
        if left:
            self._ray.wait(left, num_returns=len(left), timeout=30)


def _work(content: bytes, folder: str, variables: dict[str, str]) -> tuple[Failure | None, float]:
    """What a worker of Ray does: one job, where the run was started."""
    try:
        os.chdir(folder)
    except OSError:
        raise ClusterError(
            f"{folder}, where the run was started, is not there on {socket.gethostname()}: "
            "nodes of a Ray cluster need a file system in common"
        ) from None
    os.environ.update(variables)
    outcome = attempt(pickle.loads(content))
    return outcome.error, outcome.seconds
