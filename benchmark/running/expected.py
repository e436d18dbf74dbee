"""How long jobs will take: as their like took in this folder, or as it took elsewhere. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from benchmark.running.live import Note
from benchmark.storage.ledger import Ledger

Group = tuple[str, ...]
"""Jobs that should take about the same time."""
ONE_SPEED = 60.0
"""Seconds for which this machine counts as fast as the one of the guesses. Short jobs take longer than was guessed (the
first of a worker loads what it needs), and the first of them must not be taken for the speed of all."""


class Left(NamedTuple):
    """The time that is left."""

    work: float
    """Seconds of one worker."""
    seconds: float
    """Seconds until the end, with all workers."""
    unknown: int
    """Jobs that are not counted, as nothing like them was measured."""

    def __str__(self) -> str:
        if not self.work and self.unknown:
            return "unknown time"
        return ("more than " if self.unknown else "") + in_words(self.seconds)


class Expected:
    """Told the seconds of jobs that ended, it expects those of others."""

    def __init__(
        self,
        book: Ledger,
        guesses: Mapping[tuple[object, ...], float],
        seconds: Mapping[str, float],
    ) -> None:
        """`guesses` are measured elsewhere, by what a cell or a training is (see `costs.guesses`)."""
        self._groups: dict[str, tuple[Group, ...]] = {}
        self._guesses: dict[str, float] = {}
        for line in book.entries:
            cell, model = f"cells/{line.key}", f"models/{line.model_key}"
            of_metric = ("cells", line.dataset, line.metric)
            like = (("cells", line.method, line.model), ("cells", line.method), of_metric)
            self._groups[cell], self._groups[model] = like, (("models", line.experiment),)
            known = (cell, guesses.get(line.identity)), (model, guesses.get(line.training))
            self._guesses |= {name: guess for name, guess in known if guess is not None}
        self._seen: dict[Group, list[float]] = defaultdict(list)
        self._usual: dict[Group, float] = {}
        self._taken = self._guessed = ONE_SPEED
        for name, value in seconds.items():
            self.learn(name, value)

    def learn(self, name: str, seconds: float) -> None:
        """A job has taken these seconds."""
        for group in self._likes(name):
            self._seen[group].append(seconds)
            # the mean, as jobs are added up: an attack on the few models that hold takes most of the time of all
            self._usual[group] = fmean(self._seen[group])
        if guess := self._guesses.get(name):
            self._taken += seconds
            self._guessed += guess

    def of(self, name: str) -> float | None:
        """The seconds of a job: those of its like here, of its like elsewhere, of its kind here; none if unknown."""
        *near, kind = self._likes(name)
        for group in near:
            if group in self._usual:
                return self._usual[group]
        guess = self._guesses.get(name)
        if guess is not None:
            return guess * self._taken / self._guessed
        # cells differ by orders of magnitude, trainings do not
        return None if kind == ("cells",) else self._usual.get(kind)

    def left(self, waiting: Iterable[str], at: Iterable[Note], workers: int) -> Left:
        """The time for the jobs that wait and those that are being done."""
        times = [*map(self.of, waiting), *map(self._rest, at)]
        known = [seconds for seconds in times if seconds is not None]
        work = sum(known)
        # one long job keeps all workers waiting
        return Left(work, max(work / workers, max(known, default=0.0)), len(times) - len(known))

    def _rest(self, note: Note) -> float | None:
        if note.rest is not None:
            return note.rest
        usual = self.of(note.name)
        return None if usual is None else max(0.0, usual - note.elapsed)

    def _likes(self, name: str) -> tuple[Group, ...]:
        return (*self._groups.get(name, ()), (name.partition("/")[0],))


def in_words(seconds: float) -> str:
    """A time for a person: 5 s, 12 min, 3 h 20 min, 11 days 21 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if hours < 48:
        return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
