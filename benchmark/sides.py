"""The models of runs by their names, and which two of them are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from benchmark.cards import nearest
from benchmark.errors import BenchError
from benchmark.report.names import row_names
from benchmark.report.read import Run


class CompareError(BenchError):
    """Models that cannot be compared; the message says why, and what could be."""


class AbsentError(CompareError):
    """A model that a data set has not; another may have it."""


@dataclass(frozen=True)
class Side:
    """One model of a run."""

    run: Run
    """Of one data set."""
    model: str
    trainer: str
    name: str

    @property
    def scores(self) -> pd.DataFrame:
        """Its scores of single images."""
        found = self.run.scores
        if found.empty:
            return found
        return found[(found["model"] == self.model) & (found["trainer"] == self.trainer)]

    @property
    def reconstruction(self) -> bool:
        """Whether its method was built from an abstract."""
        own = self.run.records
        rows = own[(own["model"] == self.model) & (own["trainer"] == self.trainer)]
        return bool(rows["reconstruction"].any())


def chain(text: str) -> list[str]:
    """The names of models in an order, written "A < B < C"."""
    return [name.strip() for name in text.split(" < ")]


def of_run(run: Run) -> dict[str, Side]:
    """The models of a run of one data set by the names of their rows."""
    names = row_names(run.records)
    return {name: Side(run, model, trainer, name) for (model, trainer), name in names.items()}


def pairs_of(
    a: dict[str, Side], b: dict[str, Side], one_run: bool,
    models: tuple[str, str] | None, baseline: str | None, orders: Sequence[Sequence[str]],
) -> list[tuple[Side, Side]]:  # fmt: skip
    """(A, B) of every comparison."""
    if sum(map(bool, (models, baseline, orders))) > 1:
        raise CompareError(
            "--models names both sides, --baseline one for all, --order a chain: give only one of them"
        )
    if orders:
        if not one_run or any(len(order) < 2 for order in orders):
            raise CompareError(
                "--order takes two or more models of one run, the worst first, as in 'standard < pgd_at < trades'"
            )
        chains = ([_named(name, a) for name in order] for order in orders)
        named = {(one.name, other.name): (one, other) for c in chains for one, other in pairwise(c)}
        return list(named.values())
    if models:
        return [(_named(models[0], a), _named(models[1], b))]
    if baseline:
        base = _named(baseline, a)
        others = [side for side in b.values() if not one_run or side.name != base.name]
        return [(base, side) for side in others]
    if one_run:
        if len(a) != 2:
            raise CompareError(
                f"which of the {len(a)} models? --models A B, or --baseline A for all others; there are: {', '.join(a)}"
            )
        first, last = a.values()
        return [(first, last)]
    same = [(a[name], b[name]) for name in a if name in b]
    if not same and len(a) == len(b) == 1:
        return [(next(iter(a.values())), next(iter(b.values())))]
    if not same:
        raise AbsentError(
            f"no model bears the same name in both: --models A B; there are {', '.join(a)} in A and {', '.join(b)} in B"
        )
    return same


def _named(name: str, sides: dict[str, Side]) -> Side:
    """A row of the tables by its name, its training's or its specification, or by its method if it alone is of that."""
    if name in sides:
        return sides[name]
    exact = [side for side in sides.values() if name in (side.trainer, side.model)]
    found = exact or [side for side in sides.values() if side.trainer.startswith(f"{name} (")]
    if not found:
        raise AbsentError(f"no model {name!r}{nearest(name, list(sides))}")
    if len(found) > 1:
        raise AbsentError(f"{len(found)} models are {name!r}: {', '.join(s.name for s in found)}")
    return found[0]
