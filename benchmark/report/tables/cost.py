"""The table of what the trainings of a data set cost: rows are trainings, columns passes, operations and time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from benchmark.report.names import dataset_title, row_names
from benchmark.report.tables.cells import Cell, Column, number_format
from benchmark.report.tables.table import DAGGER, Row, Table

_COLUMNS = {
    "epochs": ("Epochs", "none"),
    "forward": ("Forward passes", "lower"),
    "backward": ("Backward passes", "lower"),
    "work": ("Operations", "lower"),
    "seconds_per_epoch": ("Seconds an epoch", "lower"),
    "relative_seconds": ("Time", "lower"),
}
_CAPTION = (
    "What the trainings cost, mean over seeds, counted on steps all over them. Passes: of the trained model, in "
    "batches, a step. Operations: floating-point operations of convolutions and matrix products of all networks "
    "involved, relative to a step of standard training. Seconds: the median epoch with its validation, on the machine "
    "of the run, where other jobs may have run beside it."
)
_RELATIVE = " Time: these seconds relative to standard training's."


def cost_tables(trainings: pd.DataFrame) -> list[Table]:
    """A table for each data set; none without trainings."""
    if trainings.empty:
        return []
    return [_table(str(name), part) for name, part in trainings.groupby("dataset", sort=False)]


def _table(dataset: str, trainings: pd.DataFrame) -> Table:
    known = {name: heading for name, heading in _COLUMNS.items() if trainings[name].notna().any()}
    means = trainings.groupby(["model", "trainer"], sort=False)
    values = means[list(known)].mean()
    spreads = means[list(known)].agg(["min", "max", "std"])
    columns = tuple(_column(name, *heading, values[name]) for name, heading in known.items())
    seeds, daggers = means["seed"].nunique(), means["reconstruction"].any()
    rows = tuple(
        Row(
            name, *key, bool(daggers[key]),
            tuple(
                _cell(float(values[c.measure][key]), c, int(seeds[key]), spreads[c.measure].loc[key])
                for c in columns
            ),
        )
        for key, name in row_names(trainings).items()
    )  # fmt: skip
    notes = (("†", DAGGER),) if daggers.any() else ()
    return Table(
        dataset,
        f"Cost of training on {dataset_title(dataset)}",
        _CAPTION + (_RELATIVE if "relative_seconds" in known else ""),
        columns,
        rows,
        notes,
        "cost",
    )


def _column(name: str, heading: str, direction: str, values: pd.Series) -> Column:
    scale, spec = number_format(values, pd.Series([np.nan]))
    if name == "epochs":
        spec = ".0f"
    return Column("cost", heading, "", name, direction.removeprefix("none"), scale, spec, "0..")


def _cell(value: float, column: Column, seeds: int, spread: pd.Series) -> Cell:
    """`spread`: min, max and std over the seeds."""
    empty = Cell(value, np.nan, np.nan, 0, seeds, *spread.astype(float))
    return empty if np.isnan(value) else replace(empty, shown=column.written(value))
