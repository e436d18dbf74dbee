"""The leaderboard: a table of the report with what the page sorts, filters and draws it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from benchmark.report.citations import trainer_card
from benchmark.report.health import Health, health
from benchmark.report.interpretability import standing
from benchmark.report.names import PRETRAINED
from benchmark.report.quantities import Quantity, clean_accuracy, robust_accuracy
from benchmark.report.series import named
from benchmark.report.tables.cells import Column
from benchmark.report.tables.table import Row, Table

THIRD_PARTY = "third party"


@dataclass(frozen=True)
class Line:
    """A row of the table, the kind of its training, and what was found of its health."""

    row: Row
    anchor: str
    kind: str
    """The training method without its settings."""
    health: Health | None

    @property
    def third_party(self) -> bool:
        """Whether the model was trained by somebody else."""
        return self.row.trainer == PRETRAINED


@dataclass(frozen=True)
class Board:
    """A table as the page shows it."""

    number: int
    """Of the data set on the page: part of every anchor."""
    table: Table
    lines: tuple[Line, ...]
    axes: tuple[int, int, int | None]
    """The columns that the trade-off shows at first: across, up, and as colour (None: the kind of training)."""

    @property
    def families(self) -> list[tuple[str, int]]:
        """(family, number of its columns) from left to right."""
        cut = groupby(column.family for column in self.table.columns)
        return [(family, len(list(members))) for family, members in cut]

    @property
    def kinds(self) -> list[str]:
        """The kinds of training, in the order of the rows."""
        return list(dict.fromkeys(line.kind for line in self.lines))


def board(table: Table, records: pd.DataFrame, number: int) -> Board:
    """The leaderboard of one data set's table and records."""
    found = health(records)
    # health has a row for every row of the table, in its order, or none at all
    states: Sequence[Health | None] = found if found else [None] * len(table.rows)
    lines = tuple(
        Line(row, f"model-{number}-{i}", _kind(row), state)
        for i, (row, state) in enumerate(zip(table.rows, states, strict=True))
    )
    return Board(number, table, lines, _axes(table, records))


def _kind(row: Row) -> str:
    if row.trainer == PRETRAINED:
        return THIRD_PARTY
    card = trainer_card(row.trainer)
    return card.name if card else row.trainer.partition(" (")[0]


def _axes(table: Table, records: pd.DataFrame) -> tuple[int, int, int | None]:
    """Robust accuracy, interpretability and clean accuracy, as in the plot; another column across or up if need be."""
    own = named(records)
    robust, clean = (_place(table.columns, q) for q in (robust_accuracy(own), clean_accuracy(own)))
    found = standing(table)
    up = found.place if found else None
    across, colour = (clean, None) if robust is None else (robust, clean)
    free = [i for i in range(len(table.columns)) if i not in (across, up, colour)]
    if across is None:
        across = free.pop(0) if free else 0
    return across, (free[0] if free else 0) if up is None else up, colour


def _place(columns: Sequence[Column], quantity: Quantity | None) -> int | None:
    """The column of a quantity's records."""
    if quantity is None:
        return None
    facts = ("family", "metric", "params", "threat", "measure")
    wanted = [str(quantity.records.iloc[0][name]) for name in facts]
    found = [[getattr(column, name) for name in facts] for column in columns]
    return found.index(wanted) if wanted in found else None
