"""A table as JSON: what it says of itself, its columns, and a cell for each of them in every row."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from benchmark.report.tables.cells import Beside, Cell, Column
from benchmark.report.tables.panels import plain
from benchmark.report.tables.table import Table


def tidy_json(table: Table) -> str:
    """The whole table: numbers in the table's unit, unrounded (null where there is none), and as they are shown."""
    content = {
        "name": table.name,
        "dataset": table.dataset,
        "title": table.title,
        "caption": table.caption,
        "columns": [_column(column) for column in table.columns],
        "rows": [
            {
                "name": row.name, "model": row.model, "trainer": row.trainer, "reconstruction": row.dagger,
                "cells": [_cell(cell, c) for cell, c in zip(row.cells, table.columns, strict=True)],
            }
            for row in table.rows
        ],
        "controls": [
            {"name": row.name, "cells": [{"shown": plain(cell)} for cell in row.cells]}
            for row in table.controls
        ],
        "footnotes": [{"mark": mark, "text": text} for mark, text in table.footnotes],
    }  # fmt: skip
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _column(column: Column) -> dict[str, Any]:
    facts = asdict(column)
    return {**{k: v for k, v in facts.items() if k not in ("scale", "spec")}, "unit": column.unit}


def _cell(cell: Cell, column: Column) -> dict[str, Any]:
    scaled = ("mean", "low", "high", "seed_min", "seed_max", "seed_sd")
    numbers = {name: _number(getattr(cell, name) * column.scale) for name in scaled}
    return {
        **numbers, "n": cell.n, "seeds": cell.seeds, "shown": plain(cell), "best": cell.best,
        "p": _number(cell.p), "compared": cell.compared, "reason": cell.reason,
        "controls": [_beside(each, column) for each in cell.beside],
    }  # fmt: skip


def _beside(each: Beside, column: Column) -> dict[str, Any]:
    scaled = ("mean", "low", "high")
    numbers = {name: _number(getattr(each, name) * column.scale) for name in scaled}
    return {
        "control": each.control, **numbers, "p": _number(each.p), "compared": each.compared,
        "beaten": each.beaten,
    }  # fmt: skip


def _number(value: float) -> float | None:
    # ten digits: percent of a fraction would otherwise end in binary dust (41.199999999999996)
    return float(format(value, ".10g")) if math.isfinite(value) else None
