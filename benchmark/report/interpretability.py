"""Which measure stands for interpretability where there is room for one: the first that says something of the models.

Scores that noise, edges or blurred maps reach as well rank nothing, however far apart they lie. Of the headline
measures of the families below, in this order and within a family in the order of the suite, it is the first on which
at least half of the models beat all their controls; without such, the first that no control judges; without such, the
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.report.tables.beside import control
from benchmark.report.tables.cells import Cell, Column
from benchmark.report.tables.table import Table

FAMILIES = ("fidelity", "manifold", "sharpness")
"""The families that speak of interpretability."""


@dataclass(frozen=True)
class Standing:
    """The measure that was chosen, and what its controls say of it."""

    place: int
    """Of its column in the table."""
    passed: tuple[str, ...]
    """The measures before it, on which fewer than half of the models beat their controls."""
    unbeaten: frozenset[str]
    """The rows that are not seen to beat all controls, reconstructions with their dagger."""
    controls: dict[str, tuple[float, float]]
    """The least and the most that every control scored, beside whichever model."""


def standing(table: Table) -> Standing | None:
    """The measure of a table by the rule above; None where no measure of interpretability has a value."""
    known = [
        i
        for family in FAMILIES
        for i, column in enumerate(table.columns)
        if column.family == family and _usable(column, _scores(table, i))
    ]
    if not known:
        return None
    telling = [i for i in known if 2 * _beating(_scores(table, i)) >= len(_scores(table, i))]
    unjudged = [i for i in known if not any(c.judged or c.lacking for c in _scores(table, i))]
    place = [*telling, *unjudged, *known][0]
    passed = () if not (telling or unjudged) else known[: known.index(place)]
    return Standing(
        place,
        tuple(table.columns[i].label for i in passed),
        frozenset(row.name + "†" * row.dagger for row in table.rows if row.cells[place].hollow),
        _ranges(_scores(table, place)),
    )


def _usable(column: Column, scores: Sequence[Cell]) -> bool:
    """Whether a column could be it: better one way, of the model's own maps, and measured."""
    return bool(column.direction and scores and not control(column.metric, column.params))


def _scores(table: Table, place: int) -> list[Cell]:
    return [row.cells[place] for row in table.rows if np.isfinite(row.cells[place].mean)]


def _beating(scores: Sequence[Cell]) -> int:
    return sum(cell.judged and not cell.unbeaten for cell in scores)


def _ranges(scores: Sequence[Cell]) -> dict[str, tuple[float, float]]:
    found: dict[str, list[float]] = {}
    for each in (each for cell in scores for each in cell.beside):
        found.setdefault(each.control, []).append(each.mean)
    return {name: (min(own), max(own)) for name, own in found.items()}
