"""What a measure gives to maps that know nothing of the model, and which scores are not significantly better than that.

A control is a measure of the same metric (ROAR's `edge_score` beside its `score`), or the same metric with the control
as its attribution (`sobel`). A score that does not beat a control says no more than chance, edges or smoothness do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.report.best import INTERVAL, LEVEL, Scores
from benchmark.report.cells import EMPTY, Beside, Cell, Column
from benchmark.report.columns import settings
from benchmark.report.pooling import MEASURE
from benchmark.statistics.intervals import Floats
from benchmark.statistics.paired import Difference, differences, holm

CONTROLS = ("random", "edge", "blurred")
"""Maps without a reason, Sobel's edges of the image, and a model's own maps behind a Gaussian."""

ROW = "control: "
"""What the names of their rows begin with; longer ones would take a column from the table of a paper."""

_FAMILIES = ("fidelity", "localisation")
"""Where a control's score is a bar: to be less sharp than Sobel's edges is no fault."""
_BLURRED = "blurred_"
_ATTRIBUTIONS = {"random": "random", "sobel": "edge"}

Key = tuple[str, ...]
"""A column of the records, in the order of `MEASURE`."""


class Control(NamedTuple):
    """A control in every row of a column."""

    cells: Sequence[Cell]
    scores: Sequence[Scores]
    """Of single images; None where they are not kept."""


def control(metric: str, params: str) -> str:
    """The name of the control whose map a column scores; "" for a map of the model's own."""
    attribution = str(settings(metric, params).get("attribution", ""))
    return "blurred" if attribution.startswith(_BLURRED) else _ATTRIBUTIONS.get(attribution, "")


def zero(scores: Sequence[Scores]) -> Control:
    """The control that is 0 by definition, beside rows with these scores."""
    exact = replace(EMPTY, mean=0.0, shown="0")
    images = [None if own is None else np.zeros((1, 1, own.shape[-1])) for own in scores]
    return Control([exact] * len(scores), images)


def control_columns(records: pd.DataFrame, keys: Iterable[Key]) -> dict[Key, dict[str, Key]]:
    """Column -> control -> the column that holds the control's score; () where that is 0 by definition."""
    known = [tuple(map(str, key)) for key in records[MEASURE].drop_duplicates().to_numpy(object)]
    return {
        key: _measured(key, known) | _attributed(key, known) if key[0] in _FAMILIES else {}
        for key in keys
    }


def _measured(key: Key, known: Sequence[Key]) -> dict[str, Key]:
    *of, measure = key
    own = {name: (*of, f"{name}_{measure}") for name in CONTROLS}
    found: dict[str, Key] = {name: each for name, each in own.items() if each in known}
    # an area between the map's curve and the random one's
    return ({"random": ()} if (*of, "random_accuracy") in known else {}) | found


def _attributed(key: Key, known: Sequence[Key]) -> dict[str, Key]:
    family, metric, _, params, threat, measure = key
    given = settings(metric, params)
    own = given.get("attribution")
    if own is None or control(metric, params):
        return {}
    wanted = {"random": "random", "edge": "sobel", "blurred": f"{_BLURRED}{own}"}
    same = [
        (each, settings(metric, each[3]))
        for each in known
        if (each[0], each[1], *each[4:]) == (family, metric, threat, measure)
    ]
    return {
        name: each
        for name, attribution in wanted.items()
        for each, its in same
        if its == {**given, "attribution": attribution}
    }


def with_controls(
    cells: Sequence[Cell], column: Column, scores: Sequence[Scores], controls: Mapping[str, Control]
) -> list[Cell]:
    """The cells of a column with what the controls scored beside them; what does not beat all of them is not bold.

    Each row is compared with its control on the same images (benchmark/statistics/paired.py), and p corrected over the
    rows (Holm): better and below 0.05 beats it. As a row has to beat every control, that takes no further correction.
    Without scores of single images a row beats a control that its interval leaves out.
    """
    beside = [_compared(cells, column, scores, name, each) for name, each in controls.items()]
    found = [
        replace(cell, beside=tuple(each for each in own if each is not None))
        for cell, *own in zip(cells, *beside, strict=True)
    ]
    is_control = bool(control(column.metric, column.params))
    return [replace(c, best=c.best and not c.unbeaten and not is_control) for c in found]


def _compared(
    cells: Sequence[Cell], column: Column, scores: Sequence[Scores], name: str, given: Control
) -> list[Beside | None]:
    """A control beside every row; None where either has no value, or neither direction is better."""
    pairs = {
        i: (own, other)
        for i, (own, other) in enumerate(zip(scores, given.scores, strict=True))
        if own is not None and other is not None
    }
    tested = {i: d for i, d in zip(pairs, _differences(pairs.values()), strict=True) if d.test}
    corrected = dict(zip(tested, holm([d.p for d in tested.values()]), strict=True))
    tests = {i: (found.test, float(corrected[i])) for i, found in tested.items()}
    return [
        _beside(name, column.direction, own, other, *tests.get(i, (INTERVAL, np.nan)))
        if column.direction and np.isfinite([own.mean, other.mean]).all()
        else None
        for i, (own, other) in enumerate(zip(cells, given.cells, strict=True))
    ]


def _beside(name: str, direction: str, own: Cell, other: Cell, compared: str, p: float) -> Beside:
    up = direction == "higher"
    better = own.mean > other.mean if up else own.mean < other.mean
    apart = own.low > other.mean if up else own.high < other.mean
    beaten = apart if compared == INTERVAL else better and p < LEVEL
    return Beside(name, other.mean, other.low, other.high, p, compared, bool(beaten))


def _differences(pairs: Iterable[tuple[Floats, Floats]]) -> list[Difference]:
    """Every row's score minus its control's.

    A control that knows the image alone has the same networks for every row and seed: they are its own, and count once.
    The others are as many as the row's, with the same seeds and refits, so that the differences are taken one by one.
    """
    both = list(pairs)
    if not both:
        return []
    first = both[0][1][:1]
    if all(np.array_equal(first.repeat(len(c), axis=0), c, equal_nan=True) for _, c in both):
        return differences([own for own, _ in both], first)
    return differences([_minus(own, other) for own, other in both], np.zeros(first.shape[-1]))


def _minus(own: Floats, other: Floats) -> Floats:
    """Network by network, or in the mean where a seed of either failed."""
    return own - other if own.shape == other.shape else own.mean((0, 1)) - other.mean((0, 1))


def control_rows(
    columns: Sequence[Column], controls: Sequence[Mapping[str, Control]]
) -> dict[str, tuple[Cell, ...]]:
    """Control -> a cell a column: what it scored, from the least to the most where that depends on the model."""
    names = [name for name in CONTROLS if any(name in own for own in controls)]
    return {
        name: tuple(
            _spanned(own[name].cells, column) if name in own else EMPTY
            for column, own in zip(columns, controls, strict=True)
        )
        for name in names
    }


def _spanned(cells: Sequence[Cell], column: Column) -> Cell:
    known = sorted((cell for cell in cells if np.isfinite(cell.mean)), key=lambda cell: cell.mean)
    if not known:
        return EMPTY
    least, most = known[0], known[-1]
    if least.shown == most.shown:
        return replace(least, mark="", reason="")
    return replace(EMPTY, shown=f"{column.written(least.mean)} to {column.written(most.mean)}")
