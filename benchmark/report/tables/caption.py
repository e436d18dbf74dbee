"""The caption of a table: what its numbers are, what the ± holds and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pandas as pd

from benchmark.report.names import PRETRAINED, in_words
from benchmark.report.pooling import limits
from benchmark.report.tables.best import INTERVAL
from benchmark.report.tables.cells import Cell, Column, Spread
from benchmark.statistics.intervals import ENOUGH_SEEDS
from benchmark.statistics.paired import FLIPPED, MCNEMAR, NETWORKS

_CONTROLS = {
    "random": (
        "maps of noise (0 in the mean where a score is relative to them; its interval is that of their retrainings)"
    ),
    "edge": "Sobel's edges of the image, which know no model",
    "blurred": "each model's own maps behind a Gaussian, which know no more than they do (least to most)",
}
_SPREAD = "± is the standard deviation over seeds (n - 1), where there are several."
_TESTS = {
    MCNEMAR: "exact McNemar tests of 0/1 scores",
    FLIPPED: "permutation tests by sign flips, seeds averaged",
    NETWORKS: "t tests with the spread of networks",
}


def caption(
    records: pd.DataFrame,
    columns: Sequence[Column],
    cells: Sequence[Cell],
    data: str = "",
    refits: int = 1,
    controls: Collection[str] = (),
    spread: Spread = "interval",
    trainings: pd.DataFrame | None = None,
) -> str:
    """Sentences that fit these cells.

    `data` says which images were used, `refits` how many a measure has at the most, `controls` which stand below,
    `spread` what stands behind the means, `trainings` what the methods were given (benchmark/storage/trainings.py).
    """
    known = [c for c in cells if c.seeds]
    used = f"Data: {data}." if data else ""
    if not known:
        return f"No measure of this table has a value. {used}".rstrip()
    own = list(dict.fromkeys(records.loc[records["trainer"] != PRETRAINED, "model"]))
    seeds = [c.seeds for c in known]
    parts = [
        f"Architecture: {own[0]}." if len(own) == 1 else "",
        _others(records),
        used,
        f"Mean over {_span(seeds, 'seed')} and {_span([c.n for c in known if c.n], 'image')}.",
        *(
            [_SPREAD]
            if spread == "seeds"
            else _about_intervals(cells, columns, seeds, refits, spread)
        ),
        "Accuracies in %." if any(column.unit for column in columns) else "",
        "Training: floating-point operations of one step, relative to standard training."
        if any(column.family == "cost" for column in columns)
        else "",
        "Arrows point to the better direction." if any(column.arrow for column in columns) else "",
        _bold(cells) if any(c.best for c in cells) else "",
        _methods(trainings),
        _settings(columns),
        _controls(controls, cells),
    ]
    return " ".join(part for part in parts if part)


def _about_intervals(
    cells: Sequence[Cell],
    columns: Sequence[Column],
    seeds: Sequence[int],
    refits: int,
    spread: Spread,
) -> list[str]:
    cut = spread == "interval" and any(_cut(c, column) for c, column in _pairs(cells, columns))
    what = ("± is", " (its larger half)") if spread == "interval" else ("In brackets:", "")
    return [
        _interval(seeds, *what),
        _of_refits(refits),
        "Intervals are clipped to the range of the measure." * cut,
    ]


def _of_refits(refits: int) -> str:
    if refits < ENOUGH_SEEDS:
        return "Refits: 2, their spread is not in it." * (refits > 1)
    return f"From {ENOUGH_SEEDS} refits on their spread is in it, too."


def _others(records: pd.DataFrame) -> str:
    """How many rows are models of others, where there are trainings as well."""
    models = records.drop_duplicates(["model", "trainer"])["trainer"] == PRETRAINED
    if models.all() or not models.any():
        return ""
    return f"Models of others: {models.sum()}, each of its own architecture and data."


def _bold(cells: Sequence[Cell]) -> str:
    """What bold means: which tests decided, and where there was none."""
    ways = {c.compared for c in cells if c.compared}
    tests = [text for test, text in _TESTS.items() if test in ways]
    if not tests:
        clearly = " (whose interval holds the best's mean)" if ways else ""
        worse = f"clearly worse{clearly}" if ways else "worse"
        return (
            "Bold: the best of a column and the rows within its interval that are not "
            f"{worse}, if any row is."
        )
    return (
        "Bold: the best of a column and the rows within its interval that are not significantly worse on the same "
        f"images (p < 0.05 corrected for all pairs of the column; {', '.join(tests)}), if any row is."
        + " Without scores of single images: all whose interval holds the best's mean."
        * (INTERVAL in ways)
    )


def _methods(trainings: pd.DataFrame | None) -> str:
    """Settings of methods that come from the data set or a paper's recipe: their names do not tell them."""
    if trainings is None or "settings" not in trainings:
        return ""
    said: dict[str, list[str]] = {}
    given = trainings[["trainer", "settings"]].dropna().drop_duplicates()
    everyone = given["trainer"].nunique()
    for name, settings in given.itertuples(index=False):
        told = set(re.findall(r"\w+(?==)", name))
        for key, word in in_words(settings).items():
            if key not in told:
                said.setdefault(f"{key}={word}", []).append(name)
    groups: dict[str, list[str]] = {}
    for setting, names in said.items():
        who = "all" if 1 < len(set(names)) == everyone else ", ".join(dict.fromkeys(names))
        groups.setdefault(who, []).append(setting)
    parts = "; ".join(f"{names}: {', '.join(settings)}" for names, settings in groups.items())
    return f"The data set's own settings of methods: {parts}." if said else ""


def _settings(columns: Sequence[Column]) -> str:
    """What headings do not tell of settings: an attack of few queries or a curve of one point is not the usual one."""
    headings: dict[str, list[str]] = {}
    for column in columns:
        words = [f"{name}={word}" for name, word in in_words(column.params).items()]
        told = ", ".join(w for w in words if w not in column.label and "attribution=" not in w)
        headings.setdefault(told, []).append(column.label)
    said = [
        f"{', '.join(dict.fromkeys(names))}: {told}" for told, names in headings.items() if told
    ]
    return f"Settings other than the defaults: {'; '.join(said)}." if said else ""


def _controls(names: Collection[str], cells: Sequence[Cell]) -> str:
    """What the rows of controls are, and where they are no bar."""
    if not names:
        return ""
    said = "; ".join(f"{name}, {_CONTROLS[name]}" for name in names)
    judged = {each.beaten is not None for cell in cells for each in cell.beside}
    shown = " Measures of sharpness and stability describe a map: there they are for comparison."
    return f"Controls, scored by the same measures: {said}.{shown * (False in judged)}"


def _interval(seeds: Sequence[int], begin: str, end: str) -> str:
    """What stands behind the means. Two seeds say too little about a spread to put it into an interval."""
    few = [count for count in seeds if count < ENOUGH_SEEDS]
    if not few:
        return f"{begin} the 95% interval over images and seeds{end}."
    if len(few) < len(seeds):
        return (
            f"{begin} the 95% interval over images and seeds{end}; "
            f"over images alone where there are fewer than {ENOUGH_SEEDS} seeds."
        )
    number = str(min(few)) if min(few) == max(few) else f"{min(few)} to {max(few)}"
    what = "what another seed would change" if max(few) == 1 else "their spread"
    return f"{begin} the 95% interval over images{end}; seeds: {number}, {what} is not in it."


def _pairs(cells: Sequence[Cell], columns: Sequence[Column]) -> list[tuple[Cell, Column]]:
    """Cells come row by row."""
    return [(cell, columns[i % len(columns)]) for i, cell in enumerate(cells)]


def _cut(cell: Cell, column: Column) -> bool:
    """Whether mean ± reach would name a value that the measure cannot take."""
    reach = max(cell.mean - cell.low, cell.high - cell.mean)
    low, high = limits(column.scope)
    return bool(cell.mean + reach > high or cell.mean - reach < low)


def _span(counts: Sequence[int], noun: str) -> str:
    if not counts:
        return f"an unknown number of {noun}s"
    low, high = min(counts), max(counts)
    number = str(low) if low == high else f"{low} to {high}"
    return f"{number} {noun}" + ("" if high == 1 else "s")
