"""samples.parquet: written cell by cell, and read as the report needs it."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from benchmark.report.read import Run, read
from benchmark.report.tables.sets import tables
from benchmark.storage import ledger, records, samples
from benchmark.store import Store

MEASURES = {"score": "higher", "accuracy": "none"}
CELL = ledger.Entry(
    "digits", "mlp", "standard", "", False, 0, "", "roar", "fidelity", "ROAR", "",
    MEASURES, dict.fromkeys(MEASURES, "0..1"), "f", "t", "e", "q", "m", "i", "k",
)  # fmt: skip
CELLS = [replace(CELL, trainer=trainer, key=key) for trainer, key in (("b", "k"), ("a", "l"))]


def run(folder: Path, cells: list[ledger.Entry], images: int, scores: dict) -> pd.DataFrame:
    """The samples of a run with these cells, all of which have these scores."""
    store = Store(folder)
    store.save("images", "f", {"ids": torch.arange(images), "labels": torch.ones(images)}, {})
    for cell in cells:
        store.save("cells", cell.key, scores, {"reason": ""})
    ledger.write(folder, ledger.Ledger("s", tuple(cells), {}))
    records.refresh(folder)
    return pd.read_parquet(folder / "samples.parquet")


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_row_groups_of_any_size_hold_the_same_rows(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(samples, "ROWS", rows)
    scores = {
        "accuracy@0.5": torch.tensor([1.0, torch.nan]),
        "score": torch.tensor([[0.25, 0.5], [0.75, 1.0]]),
    }
    found = run(tmp_path, CELLS, 2, scores)
    assert list(found.columns) == list(samples.COLUMNS)
    assert found["trainer"].tolist() == ["b"] * 6 + ["a"] * 6
    assert found["measure"].tolist() == [*["score"] * 4, *["accuracy"] * 2] * 2
    assert found["refit"].tolist() == [0, 0, 1, 1, 0, 0] * 2
    assert found["image"].tolist() == [0, 1] * 6
    np.testing.assert_array_equal(found["value"][:6], [0.25, 0.5, 0.75, 1, 1, np.nan])
    np.testing.assert_array_equal(found["at"][:6], [*[np.nan] * 4, 0.5, 0.5])
    assert (found["label"] == 1).all()
    texts = ("dataset", "model", "trainer", "threat", "metric", "params", "measure")
    assert all(found[name].dtype == "category" for name in texts)
    assert list(found["trainer"].cat.categories) == ["a", "b"]
    groups = pq.ParquetFile(tmp_path / "samples.parquet").metadata
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert sizes == {1: [4, 2] * 2, 7: [10, 2], 10**6: [12]}[rows]


def test_every_measure_of_a_cell_without_a_result_has_a_row_that_says_why(tmp_path):
    """Those that other models have; which controls there are, say, the settings decide."""
    measures = {"score": "higher", "margin": "lower", "edge_score": "none", "accuracy": "none"}
    both = {"directions": measures, "ranges": dict.fromkeys(measures, "-1..1")}
    cells = [replace(CELL, seed=seed, key=str(seed), **both) for seed in range(3)]
    store = Store(tmp_path)
    store.save("images", "f", {"ids": torch.arange(2), "labels": torch.ones(2)}, {})
    scores = {"score": torch.ones(2), "margin": torch.zeros(2), "accuracy@0.5": torch.ones(2)}
    store.save("cells", "0", scores, {"reason": ""})
    ledger.write(tmp_path, ledger.Ledger("s", tuple(cells), {"1": "out of memory"}))
    records.refresh(tmp_path)
    rows = pd.read_parquet(tmp_path / "records.parquet")
    gone = rows[rows["value"].isna()]
    facts = ["seed", "measure", "direction", "headline", "note"]
    assert list(gone[facts].itertuples(index=False, name=None)) == [
        (1, "score", "higher", True, "out of memory"),
        (1, "margin", "lower", False, "out of memory"),
        (2, "score", "higher", True, "not computed yet"),
        (2, "margin", "lower", False, "not computed yet"),
    ]
    one = rows[rows["measure"].eq("score") & rows["seed"].eq(0)].iloc[0]
    assert (one["low"], one["high"]) == (1, 1), "from -1 to 1: no proportion"
    (made,) = tables(read(tmp_path), "fidelity")
    assert made.rows[0].cells[0].reason == "1 of 3 seeds only: out of memory"


def test_no_more_than_a_row_group_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "ROWS", 2**16)
    many = [replace(CELL, seed=seed) for seed in range(60)]
    tracemalloc.start()
    found = run(tmp_path, many, 20_000, {"score": torch.rand(20_000)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 1_200_000
    assert peak < 30e6


def test_a_report_holds_its_own_data_sets_rows(tmp_path):
    cells = [*CELLS, replace(CELL, dataset="mnist", key="n")]
    scores = {"score": torch.tensor([0.25, 0.5]), "accuracy@0.5": torch.tensor([1.0, 0.0])}
    run(tmp_path, cells, 2, scores)
    whole = Run(pd.read_parquet(tmp_path / "records.parquet"), folder=tmp_path)
    digits = whole.by_dataset()["digits"]
    assert len(whole.scores) == 6
    assert digits.scores["value"].tolist() == [0.25, 0.5] * 2, "no curves"
    assert "at" not in digits.scores
    assert digits.samples("roar", "accuracy")["value"].tolist() == [1, 0] * 2
    assert digits.samples("roar", "nothing").empty
