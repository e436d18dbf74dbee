"""What is published of a third party's model stands beside what was measured here, where both are of the same thing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.grids import grid_markdown, grid_terminal
from benchmark.report.published import grids, lines
from benchmark.report.read import Run, tidy
from benchmark.storage.rows import COLUMNS

MODEL = "robustbench:cifar10/Linf/Wong2020Fast?dir=weights"


def record(
    metric: str, threat: str, value: float, model: str = MODEL, params: str = ""
) -> dict[str, object]:
    facts: dict[str, object] = dict.fromkeys(COLUMNS, "")
    facts |= {
        "dataset": "cifar10",
        "model": model,
        "trainer": "pretrained",
        "metric": metric,
        "threat": threat,
    }
    facts |= {
        "value": value,
        "low": value - 0.02,
        "high": value + 0.02,
        "stderr": 0.01,
        "n": 1000,
        "seed": 0,
    }
    return facts | {
        "params": params,
        "headline": True,
        "reconstruction": False,
        "at": np.nan,
        "family": "robustness",
    }


RECORDS = tidy(
    pd.DataFrame(
        [
            record("clean_accuracy", "", 0.834),
            record("auto_attack", "Linf 8/255", 0.431),
            record("auto_attack", "Linf 4/255", 0.6),
            record("auto_attack", "L2 8/255", 0.7),
            record("auto_attack", "Linf 8/255", 0.5, params='{"queries": 10}'),
            record("clean_accuracy", "", 0.5, model="file:mine.pt@mlp"),
        ]
    )
)


def test_only_the_same_measure_under_the_same_threat_is_compared() -> None:
    found = [(line.what, line.published, round(line.measured, 2)) for line in lines(RECORDS)]
    assert found == [("clean", 83.34, 83.4), ("AutoAttack, Linf 8/255", 43.21, 43.1)]


def test_every_format_shows_it() -> None:
    (grid,) = grids(Run(RECORDS))
    line = "| Wong2020Fast | clean | 83.34 | 83.40 (81.40 to 85.40) | 1000 |"
    assert line in grid_markdown(grid)
    assert "Wong2020Fast & clean & 83.34 & 83.40 (81.40 to 85.40) & 1000" in grid_latex(grid)
    assert len(grid_terminal(grid)) == 3


def test_without_such_models_nothing_is_shown() -> None:
    assert grids(Run(RECORDS[RECORDS["model"].str.startswith("file:")])) == []


def test_what_another_attack_found_stands_beside_autoattack() -> None:
    """RobustBench lists Xiao et al. 2020 with 18.50% under AutoAttack, and 7.40% under an attack of their own."""
    model = "robustbench:cifar10/Linf/Xiao2020Enhancing"
    records = [
        record("clean_accuracy", "", 0.79, model), record("auto_attack", "Linf 0.031", 0.2, model),
    ]  # fmt: skip
    (grid,) = grids(Run(tidy(pd.DataFrame(records))))
    assert [row[2] for row in grid.rows] == ["79.28", "18.50 (7.40)"]
