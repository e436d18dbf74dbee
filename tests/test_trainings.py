"""What trainings cost: the rows of a run, and their table."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from benchmark.report.formats.latex import latex
from benchmark.report.formats.markdown import markdown
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.tables.cost import cost_tables
from benchmark.storage.trainings import COLUMNS


def row(
    trainer: str, seed: int, work: float, relative: float, dagger: bool = False
) -> dict[str, object]:
    facts = dict.fromkeys(COLUMNS, 1.0)
    names = {"dataset": "digits", "model": "mlp", "trainer": trainer, "seed": seed}
    return (
        facts
        | names
        | {"reconstruction": dagger, "work": work, "relative_seconds": relative, "epochs": 8}
    )


ROWS = pd.DataFrame(
    [row("standard", 0, 1.0, 0.9), row("standard", 1, 1.0, 1.1), row("sagr", 0, 6.1, 5.0, True)]
)


def test_the_table_has_the_mean_over_seeds() -> None:
    (table,) = cost_tables(ROWS)
    shown = {
        r.name: dict(zip((c.measure for c in table.columns), r.cells, strict=True))
        for r in table.rows
    }
    assert shown["standard"]["relative_seconds"].mean == pytest.approx(1.0)
    time = shown["standard"]["relative_seconds"]
    assert (time.seed_min, time.seed_max) == (0.9, 1.1)
    assert time.seed_sd == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(shown["sagr"]["work"].seed_sd)
    assert shown["standard"]["epochs"].shown == "8"
    assert shown["sagr"]["work"].shown == "6.10"
    assert table.footnotes[0][0] == "†"


def test_every_format_shows_it() -> None:
    (table,) = cost_tables(ROWS)
    for text in (markdown(table), latex(table), tidy_csv(table)):
        assert "6.10" in text or "6.1" in text
        assert "sagr" in text


def test_without_standard_training_there_is_no_column_of_relative_time() -> None:
    (table,) = cost_tables(ROWS[ROWS["trainer"] == "sagr"].assign(relative_seconds=math.nan))
    assert "relative_seconds" not in {c.measure for c in table.columns}
    assert "Time:" not in table.caption
    assert "Time:" in cost_tables(ROWS)[0].caption


def test_without_trainings_there_is_no_table() -> None:
    assert cost_tables(pd.DataFrame(columns=list(COLUMNS))) == []
    assert cost_tables(pd.DataFrame()) == []
