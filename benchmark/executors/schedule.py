"""Which job begins next, and what becomes of one whose worker died: the same for every pool of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmark.executors.jobs import Failure, Job, Outcome, blocked

TRIES = 3
"""How many workers a job may cost."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A job that is given to a worker: all of it, or (`helping`) beside the one that has it."""

    job: Job
    helping: bool = False

    @property
    def work(self) -> Job:
        """What the worker does."""
        return replace(self.job, call=self.job.help) if self.helping and self.job.help else self.job


class Pool(Protocol):
    """Workers, each of which does one job at a time."""

    one_machine: bool
    """All workers share one memory."""

    def room(self) -> int:
        """How many more jobs may begin now."""

    def begin(self, ticket: Ticket) -> None:
        """Give a job to a free worker."""

    def ended(self) -> list[tuple[Ticket, Outcome | None]]:
        """Wait a while; what has ended meanwhile, with no outcome where the worker died."""

    def close(self) -> None:
        """End the workers now; what they were writing is discarded."""


@dataclass
class _Schedule:
    """Jobs that wait, run and are done. A need that is no job of this run is in the store already."""

    waiting: list[Job]
    alone: bool
    """Whether the last try of a job is made with no other beside it: memory may be what it lacked."""
    running: list[Ticket] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    divided: set[str] = field(default_factory=set)
    """Jobs of which a helper has found no part left that nobody was at."""
    fitted: set[str] = field(default_factory=set)
    """What jobs share (`Job.fits`) and one of them has made."""

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting) or any(not ticket.helping for ticket in self.running)

    def blocked(self) -> Iterator[Outcome]:
        """The outcomes of jobs that can never begin."""
        for job in list(self.waiting):
            if outcome := blocked(job, self.failed):
                self.waiting.remove(job)
                yield self._noted(outcome)

    def next(self) -> Ticket | None:
        """What may begin now: a job that needs nothing unfinished, else help for one that runs."""
        busy = [ticket.job for ticket in self.running if not ticket.helping]
        if any(self._last_try(job) for job in busy):
            return None
        if last := next(filter(self._last_try, self.waiting), None):
            return None if self.running else self._begun(last)
        pending = {job.name for job in (*self.waiting, *busy)}
        made_now = {job.fits for job in busy if job.fits} - self.fitted
        ready = (job for job in self.waiting if pending.isdisjoint(job.needs))
        if first := _first(ready, lambda job: job.fits not in made_now):
            return self._begun(first)
        open_ = [job for job in busy if job.help and job.name not in self.divided]
        if not open_:
            return None
        helpers = Counter(ticket.job.name for ticket in self.running)
        ticket = Ticket(min(open_, key=lambda job: helpers[job.name]), helping=True)
        self.running.append(ticket)
        return ticket

    def ended(self, ticket: Ticket, outcome: Outcome | None) -> Iterator[Outcome]:
        """What has become of a job, unless it is tried again."""
        self.running.remove(ticket)
        job = ticket.job
        if ticket.helping:
            self.divided.add(job.name)  # how its helper ended is nobody's business
        elif outcome:
            if outcome.error is None:
                self.fitted.add(job.fits)
            yield self._noted(outcome)
        else:
            self.deaths[job.name] += 1
            if self.deaths[job.name] < TRIES:
                self.waiting.insert(0, job)
            else:
                died = Failure(f"it killed its worker {TRIES} times (out of memory?)")
                yield self._noted(Outcome(job, died, 0.0))

    def _last_try(self, job: Job) -> bool:
        return self.alone and self.deaths[job.name] == TRIES - 1

    def _begun(self, job: Job) -> Ticket:
        self.waiting.remove(job)
        ticket = Ticket(job)
        self.running.append(ticket)
        return ticket

    def _noted(self, outcome: Outcome) -> Outcome:
        if outcome.error:
            self.failed[outcome.job.name] = outcome.error
        return outcome


def _first(jobs: Iterable[Job], wanted: Callable[[Job], bool]) -> Job | None:
    """The first job that is wanted; the first of all where none is."""
    other = None
    for job in jobs:
        if wanted(job):
            return job
        other = other or job
    return other


def scheduled(jobs: Sequence[Job], open_pool: Callable[[], Pool]) -> Iterator[Outcome]:
    """The outcomes of the jobs, as they end, by the workers of a pool."""
    if not jobs:
        return
    with closing(open_pool()) as pool:
        schedule = _Schedule(list(jobs), pool.one_machine)
        while schedule.unfinished:
            yield from schedule.blocked()
            while pool.room() > 0 and (ticket := schedule.next()):
                pool.begin(ticket)
            if schedule.running or schedule.waiting:
                for ticket, outcome in pool.ended():
                    yield from schedule.ended(ticket, outcome)
