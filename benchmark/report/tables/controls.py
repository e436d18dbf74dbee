"""What a measure gives to maps that know nothing of the model, and which scores are not significantly better than that.

A control is a measure of the same metric (ROAR's `edge_score` beside its `score`), or the same metric with the control
as its attribution (`sobel`). Where a measure claims something of the model, a score that does not beat a control says
no more than chance, edges or smoothness do; where it describes the map alone, the control is shown for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.controls import CONTROLS
from benchmark.report.tables.beside import control
from benchmark.report.tables.best import INTERVAL, Scores
from benchmark.report.tables.cells import ABSENT, EMPTY, Beside, Cell, Column
from benchmark.statistics.intervals import ENOUGH_SEEDS, Floats
from benchmark.statistics.paired import SIGNIFICANT, Difference, difference, differences, holm

ROW = "control: "
"""What the names of their rows begin with; longer ones would take a column from the table of a paper."""

_JUDGED = ("fidelity", "sanity", "manifold", "localisation")
"""Families that claim something of the model, where a control's score is a bar.

To be less sharp than Sobel's edges, or less steady than a map that looks at no image, is no fault.
"""
_STEADINESS = ("sensitivity",)
"""Metrics of these families that claim no more than those of stability do."""


class Control(NamedTuple):
    """A control in every row of a column."""

    cells: Sequence[Cell]
    scores: Sequence[Scores]
    """Of single images; None where they are not kept."""


def with_controls(
    cells: Sequence[Cell], column: Column, scores: Sequence[Scores], given: Mapping[str, Control]
) -> list[Cell]:
    """The cells of a column with what the controls scored beside them; what does not beat a bar is not bold.

    Each row is compared with its control on the same images (benchmark/statistics/paired.py), and p corrected over the
    rows (Holm): better and below 0.05 beats it. As a row has to beat every control, that takes no further correction.
    Without scores of single images a row beats a control that its interval leaves out. Where a control that is a bar
    has no score, the row is not judged and its `reason` says why.
    """
    beside = [_compared(cells, column, scores, name, each) for name, each in given.items()]
    found = [
        replace(cell, beside=tuple(each for each in own if each is not None))
        for cell, *own in zip(cells, *beside, strict=True)
    ]
    if _is_bar(column) and column.direction:
        found = [
            _lacking(cell, {name: each.cells[i] for name, each in given.items()})
            for i, cell in enumerate(found)
        ]
    is_control = bool(control(column.metric, column.params))
    return [replace(c, best=c.best and not c.hollow and not is_control) for c in found]


def _lacking(cell: Cell, given: Mapping[str, Cell]) -> Cell:
    """With the controls that have no score of a row that has one, and why; what is known of the others stands."""
    gone = {name: own for name, own in given.items() if np.isnan(own.mean)}
    if np.isnan(cell.mean) or not gone:
        return cell
    why = "; ".join(f"no score of the control {name} ({own.reason})" for name, own in gone.items())
    judged = "" if cell.unbeaten else "not judged: "
    reason = "; ".join(filter(None, (cell.reason, judged + why)))
    return replace(cell, lacking=tuple(gone), reason=reason)


def _compared(
    cells: Sequence[Cell], column: Column, scores: Sequence[Scores], name: str, given: Control
) -> list[Beside | None]:
    """A control beside every row; None where either has no value, or neither direction is better."""
    known = [
        bool(column.direction) and bool(np.isfinite([own.mean, other.mean]).all())
        for own, other in zip(cells, given.cells, strict=True)
    ]
    if not _is_bar(column):
        return [
            Beside(name, each.mean, each.low, each.high) if there else None
            for each, there in zip(given.cells, known, strict=True)
        ]
    pairs = {
        i: (own, other)
        for i, (own, other) in enumerate(zip(scores, given.scores, strict=True))
        if known[i] and own is not None and other is not None
    }
    tested = {i: d for i, d in zip(pairs, _differences(pairs.values()), strict=True) if d.test}
    corrected = dict(zip(tested, holm([d.p for d in tested.values()]), strict=True))
    tests = {i: (found.test, float(corrected[i]), found.value) for i, found in tested.items()}
    return [
        _beside(name, column.direction, own, other, *tests.get(i, (INTERVAL, np.nan, np.nan)))
        if known[i]
        else None
        for i, (own, other) in enumerate(zip(cells, given.cells, strict=True))
    ]


def _is_bar(column: Column) -> bool:
    """Whether a score has to be better than its controls' to say anything."""
    return column.family in _JUDGED and column.metric not in _STEADINESS


def _beside(
    name: str, direction: str, own: Cell, other: Cell, compared: str, p: float, gap: float
) -> Beside:
    """`gap`: the score minus the control's, on the images that both have scores of."""
    up = direction == "higher"
    apart = own.low > other.mean if up else own.high < other.mean
    better = gap > 0 if up else gap < 0
    beaten = apart if compared == INTERVAL else better and p < SIGNIFICANT
    return Beside(name, other.mean, other.low, other.high, p, compared, bool(beaten))


def _differences(pairs: Iterable[tuple[Floats, Floats]]) -> list[Difference]:
    """Every row's score minus its control's.

    A control that knows the image alone has the same networks for every row and seed: they are its own, and count once.
    The others are as many as the row's, with the same seeds and refits, so that the differences are taken one by one.
    """
    both = list(pairs)
    if not both:
        return []
    controls = [other[_seeds(other)] for _, other in both]
    first = controls[0][:1]
    if all(np.array_equal(first.repeat(len(c), axis=0), c, equal_nan=True) for c in controls):
        return differences([own for own, _ in both], first)
    minus = [_minus(own, other) for own, other in both]
    alike = iter(differences([d for d in minus if d is not None], 0.0))
    return [
        difference(own, other) if d is None else next(alike)
        for d, (own, other) in zip(minus, both, strict=True)
    ]


def _minus(own: Floats, other: Floats) -> Floats | None:
    """Network by network; None where so many seeds of either failed that the rest would have no spread: then the spread
    of either has to do."""
    if own.shape != other.shape:
        return None
    seeds, common = _seeds(own) | _seeds(other), _seeds(own) & _seeds(other)
    return own - other if common.sum() >= min(ENOUGH_SEEDS, seeds.sum()) else None


def _seeds(scores: Floats) -> NDArray[np.bool_]:
    """Which seeds have a score, (seeds,)."""
    return np.asarray(np.isfinite(scores).any((1, 2)))


def control_rows(
    columns: Sequence[Column], given: Sequence[Mapping[str, Control]]
) -> dict[str, tuple[Cell, ...]]:
    """Control -> a cell a column: what it scored, from the least to the most where that depends on the model."""
    names = [name for name in CONTROLS if any(name in own for own in given)]
    return {
        name: tuple(
            _spanned(own[name].cells, column) if name in own else EMPTY
            for column, own in zip(columns, given, strict=True)
        )
        for name in names
    }


def _spanned(cells: Sequence[Cell], column: Column) -> Cell:
    known = sorted((cell for cell in cells if np.isfinite(cell.mean)), key=lambda cell: cell.mean)
    if not known:
        return replace(EMPTY, shown=ABSENT.shown)
    least, most = known[0], known[-1]
    if least.shown == most.shown:
        return replace(least, mark="", reason="")
    return replace(EMPTY, shown=f"{column.written(least.mean)} to {column.written(most.mean)}")
