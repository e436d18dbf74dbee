"""Jobs in this process, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.executors.jobs import Failure, Job, Outcome, attempt, blocked


def execute(jobs: Sequence[Job]) -> Iterator[Outcome]:
    """The outcomes of the jobs, in order."""
    failed: dict[str, Failure] = {}
    for job in jobs:
        outcome = blocked(job, failed) or attempt(job, own_interrupt=True)
        if outcome.error:
            failed[job.name] = outcome.error
        yield outcome
