"""What the trainings of a run cost and how they went: one row a trained model, and one row an epoch.

Times differ from run to run.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import pandas as pd

from benchmark.errors import IntegrityError
from benchmark.storage.ledger import Entry, Ledger
from benchmark.store import Store

COLUMNS = (
    *("dataset", "model", "trainer", "seed", "reconstruction", "epochs", "kept", "loss", "validation"),
    *("settings", "recipe", "forward", "backward", "work", "seconds", "seconds_per_epoch", "relative_seconds"),
)  # fmt: skip
"""`epochs` trained; `kept`, whose weights it has (from 0), with its `loss` and `validation`; `settings` of the method
that are not its card's defaults, as JSON, "" where there are none; `recipe` as JSON, "" where an earlier version
trained; passes and `work` as in trainers._cost.Cost; `seconds` of the training with all that it prepares,
`seconds_per_epoch` the median epoch's without the first, which prepares things; `relative_seconds`: the latter over
that of `standard` (mean over seeds) with the same data set and model in this run, NaN where there is none."""

EPOCHS = ("dataset", "model", "trainer", "seed", "epoch", "loss", "validation", "lr", "seconds")
"""As in trainers.base.Epoch."""


def trainings(store: Store, book: Ledger) -> pd.DataFrame:
    """One row for each trained model of a run that is there and whole."""
    known = {entry.model_key: entry for entry in book.entries if entry.fit}
    rows = [_row(store, entry) for entry in known.values()]
    table = pd.DataFrame([row for row in rows if row], columns=list(COLUMNS[:-1]))
    standard = table[table["trainer"] == "standard"].groupby(["dataset", "model"])
    usual = standard["seconds_per_epoch"].mean().to_dict()
    beside = zip(table["dataset"], table["model"], table["seconds_per_epoch"], strict=True)
    return table.assign(
        relative_seconds=[
            own / usual.get((data, model), float("nan")) for data, model, own in beside
        ]
    )


def epochs(store: Store, book: Ledger) -> pd.DataFrame:
    """One row for each epoch of the trained models that are there and whole."""
    known = {entry.model_key: entry for entry in book.entries if entry.fit}
    rows = [
        {**{name: getattr(entry, name) for name in EPOCHS[:4]}, **epoch}
        for entry in known.values()
        for epoch in (_info(store, entry) or {"log": []})["log"]
    ]
    return pd.DataFrame(rows, columns=list(EPOCHS))


def _info(store: Store, entry: Entry) -> dict[str, Any] | None:
    """What is kept with a trained model; none if it is not there or not whole."""
    if not store.has("models", entry.model_key):
        return None
    try:
        return store.info("models", entry.model_key)
    except IntegrityError:
        return None  # its cells say so


def _row(store: Store, entry: Entry) -> dict[str, Any] | None:
    info = _info(store, entry)
    if info is None:
        return None
    log, kept = info["log"], info["log"][info["kept"]]
    seconds = [epoch["seconds"] for epoch in log]
    return {
        "dataset": entry.dataset, "model": entry.model, "trainer": entry.trainer, "seed": entry.seed,
        "reconstruction": entry.reconstruction, "epochs": len(log), "kept": info["kept"],
        "loss": kept["loss"], "validation": kept["validation"],
        "settings": entry.settings,
        "recipe": json.dumps(info["recipe"]) if "recipe" in info else "", **info["cost"],
        "seconds": sum(seconds), "seconds_per_epoch": median(seconds[1:] or seconds),
    }  # fmt: skip
