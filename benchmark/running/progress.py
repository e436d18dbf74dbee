"""What a person sees while a run works: bars with an estimate on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from benchmark.executors import Failure, Job, Outcome
from benchmark.plan import Plan, Training
from benchmark.running import live
from benchmark.running.costs import guesses
from benchmark.running.expected import Expected, Left, in_words
from benchmark.running.journal import Journal
from benchmark.running.live import Note
from benchmark.storage import ledger
from benchmark.storage.manifest import read
from trainers.base import Epoch, OnEpoch


class Display:
    """Told the jobs once, then every outcome; looks by itself what is being done meanwhile."""

    def __init__(
        self, journal: Journal, folder: Path, plan: Plan, workers: int, words: str
    ) -> None:
        self.journal, self.folder, self.plan = journal, folder, plan
        self.workers, self.words = workers, words
        self.waiting: dict[str, Job] = {}
        self.spent = 0.0
        self.done = self.total = 0
        self.expected: Expected | None = None

    def begin(self, jobs: list[Job]) -> Display:
        """The jobs that are to be done now."""
        self.total, self.waiting = len(jobs), {job.name: job for job in jobs}
        book = ledger.read(self.folder)
        assert book is not None
        seconds = read(self.folder).get("seconds", {})
        self.expected = Expected(book, guesses(self.plan), seconds)
        if jobs:
            self.journal.open(self.folder, self.words)
            self.journal.say(f"{self.total} jobs on {self.workers} worker(s), {self.left([])} left")
        return self

    def __call__(self, outcome: Outcome) -> None:
        """One job has ended."""
        assert self.expected is not None
        self.done += 1
        self.waiting.pop(outcome.job.name, None)
        if not outcome.error:
            self.expected.learn(outcome.job.name, outcome.seconds)
            self.spent += outcome.seconds
        left = self.left([])
        count = f"{self.done:{len(str(self.total))}}/{self.total} {self.share(left):4.0%}"
        line = f"{count} {outcome.seconds:8.1f} s  {outcome.job.title}"
        if outcome.error and not outcome.error.cause:
            needing = sum(outcome.job.name in job.needs for job in self.waiting.values())
            self.journal.warn("failed", f"{line}: {with_needing(outcome.error, needing)}")
        elif not outcome.error:
            self.journal.say(f"{line}  ({left} left)" if self.waiting else line)

    def left(self, at: Iterable[Note]) -> Left:
        """The time that is left, of which some jobs have begun."""
        begun = {note.name: note for note in at if note.name in self.waiting}
        waiting = (name for name in self.waiting if name not in begun)
        if self.expected is None:
            return Left(0.0, 0.0, 0)
        return self.expected.left(waiting, begun.values(), self.workers)

    def share(self, left: Left) -> float:
        """How much of the work is done, 0..1."""
        return self.spent / (self.spent + left.work) if self.spent or left.work else 1.0


def with_needing(error: Failure, count: int) -> str:
    """Why a job failed, and how many others could not begin for it: these have no lines of their own."""
    return f"{error} (and so {count} job{'s' * (count > 1)} that need it)" if count else str(error)


class _Bars(Progress):
    """A bar for all jobs, and one for each that is being done."""

    def __init__(self, display: Display, console: Console) -> None:
        self.looked = math.inf  # not while the bars are made, which shows them once
        super().__init__(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
            console=console, transient=True,
        )  # fmt: skip
        self.display = display
        self.whole = self.add_task("", total=1.0, note="")
        self.each: dict[str, TaskID] = {}
        self.looked = -math.inf

    def get_renderables(self) -> Iterable[RenderableType]:
        if time.monotonic() - self.looked > 0.5:
            self.looked = time.monotonic()
            self._look()
        return super().get_renderables()

    def _look(self) -> None:
        display = self.display
        at = [n for n in live.notes(display.folder) if n.name in display.waiting]
        left = display.left(at)
        share, note = display.share(left), f"{left} left"
        self.update(
            self.whole, completed=share, note=f"{share:.0%}, {note}",
            description=f"{display.done}/{display.total} jobs", visible=bool(display.waiting),
        )  # fmt: skip
        for name in set(self.each) - {note.name for note in at}:
            self.remove_task(self.each.pop(name))
        for each in at:
            if each.name not in self.each:
                self.each[each.name] = self.add_task(escape(each.title), total=None, note="")
            self._update(self.each[each.name], each)

    def _update(self, task: TaskID, note: Note) -> None:
        usual = self.display.expected.of(note.name) if self.display.expected else None
        words = in_words(note.elapsed) + (f" of about {in_words(usual)}" if usual else "")
        if note.epochs:
            words = f"epoch {note.epoch}/{note.epochs}, {words}"
        share = note.epoch / note.epochs if note.epochs else note.elapsed / (usual or math.inf)
        self.update(
            task, total=1.0 if usual or note.epochs else None, completed=min(share, 1.0), note=words
        )


@contextmanager
def display(
    journal: Journal, folder: Path, plan: Plan, workers: int, words: str
) -> Iterator[Display]:
    """The display, live as long as the block runs."""
    shown = Display(journal, folder, plan, workers, words)
    if journal.quiet or not journal.console.is_terminal:
        yield shown
        return
    with _Bars(shown, journal.console):
        yield shown


@contextmanager
def epoch_lines(console: Console, training: Training, quiet: bool = False) -> Iterator[OnEpoch]:
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
            f"{epoch.seconds:.1f} s" + f", {in_words(left)} left" * known,
        ]
        console.print("  ".join(filter(None, parts)), highlight=False)

    yield (lambda epoch: None) if quiet else line
