"""What a person sees while a run works: a bar with an estimate on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmark.executors import Job, Outcome
from benchmark.plan import Training
from trainers.base import Epoch, OnEpoch


class Display:
    """Told the jobs once, then every outcome."""

    def __init__(self, console: Console, workers: int) -> None:
        self.console, self.workers = console, workers
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)
        self.done = self.total = 0

    def begin(self, jobs: list[Job]) -> Display:
        """The jobs that are to be done now."""
        self.total = len(jobs)
        self.bar.update(self.task, total=self.total)
        if jobs:
            self.console.print(f"{self.total} jobs on {self.workers} worker(s)", highlight=False)
        return self

    def __call__(self, outcome: Outcome) -> None:
        """One job has ended."""
        self.done += 1
        self.bar.update(self.task, completed=self.done)
        count = f"{self.done:{len(str(self.total))}}/{self.total}"
        verdict = f" [red]failed:[/] {escape(str(outcome.error))}" if outcome.error else ""
        title = escape(outcome.job.title)
        self.bar.console.print(
            f"{count} {outcome.seconds:7.1f} s  {title}{verdict}", highlight=False, soft_wrap=True
        )


@contextmanager
def display(console: Console, workers: int) -> Iterator[Display]:
    """The display, live as long as the block runs."""
    shown = Display(console, workers)
    with shown.bar:
        yield shown


@contextmanager
def epoch_lines(console: Console, training: Training) -> Iterator[OnEpoch]:
    """A line per epoch of one training, with the time that is left."""
    assert training.recipe is not None
    epochs, spent = training.recipe.epochs, 0.0
    # a budget of cost is turned into epochs by the training itself
    known = training.recipe.budget == "epochs"

    def line(epoch: Epoch) -> None:
        nonlocal spent
        spent += epoch.seconds
        left = spent / (epoch.epoch + 1) * (epochs - epoch.epoch - 1)
        parts = [
            f"epoch {epoch.epoch + 1}" + f"/{epochs}" * known,
            f"loss {epoch.loss:.4f}",
            "" if math.isnan(epoch.validation) else f"validation {epoch.validation:.1%}",
            f"{epoch.seconds:.1f} s" + f", {left:.0f} s left" * known,
        ]
        console.print("  ".join(filter(None, parts)), highlight=False)

    yield line
