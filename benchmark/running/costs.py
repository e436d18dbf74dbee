"""How long a plan will take, from times measured before.

`python -m benchmark.running.costs FOLDER ...` takes what finished runs needed into costs.json (beside this file), in
the place of what was known of their data sets.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median, median_low
from typing import Any

from benchmark.plan import Cell, Plan, Training
from benchmark.running.expected import in_words
from benchmark.storage import ledger, manifest
from benchmark.store import Store, write_json

FILE = Path(__file__).parent / "costs.json"


def overview(plan: Plan, workers: int) -> dict[str, Any]:
    """Counts of a plan, and what is known of its time."""
    return {
        "suite": plan.suite.name,
        "dataset": plan.data.name,
        "models": len(plan.trainings),
        "trainings": sum(training.trainer is not None for training in plan.trainings),
        "cells": len(plan.cells),
        "refits": sum(refits(cell) for cell in plan.cells),
        "estimate": _estimate(plan, workers),
    }


def refits(cell: Cell) -> int:
    """Retrainings that a cell asks for at most (those of the random and edge controls are shared by all models)."""
    settings = {p.name: p.default for p in cell.metric.card.parameters} | dict(cell.metric.settings)
    if "retrains" not in settings:
        return 0
    maps = 1 + len(settings.get("controls", ()))  # type: ignore[arg-type]
    return 2 * maps * int(settings["retrains"]) * len(settings["percents"])  # type: ignore[call-overload, arg-type]


def guesses(plan: Plan) -> dict[tuple[object, ...], float]:
    """Seconds of trainings and cells by what they are (`Entry.training`, `Entry.identity`), measured on some machine.

    What was never measured on the plan's data set is left out.
    """
    measured = _measured(plan)
    if measured is None:
        return {}
    found: dict[tuple[object, ...], float | None] = {}
    for cell in plan.cells:
        line = ledger.described(cell)
        found[line.identity] = _cell(cell, measured)
        found[line.training] = _training(cell.training, measured)
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def _measured(plan: Plan) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(FILE.read_text(encoding="utf-8")).get(plan.data.name)
    return found


def _estimate(plan: Plan, workers: int) -> str:
    measured = _measured(plan)
    if measured is None:
        return f"No estimate: nothing was measured on {plan.data.name} yet."
    named = [(t.label, _training(t, measured)) for t in plan.trainings]
    named += [(cell.metric.card.name, _cell(cell, measured)) for cell in plan.cells]
    total = sum(seconds for _, seconds in named if seconds is not None)
    unknown = sorted({name for name, seconds in named if seconds is None})
    left_out = f", without {', '.join(unknown)}" if unknown else ""
    return f"About {in_words(total / workers)} with {workers} worker(s) of {measured['machine']}{left_out}."


def _training(training: Training, measured: dict[str, Any]) -> float | None:
    if training.trainer is None or training.recipe is None:
        return 0.0
    # a budget of cost pays for as much work as the epochs of standard training
    name = "standard" if training.recipe.budget == "cost" else training.trainer.card.name
    epoch = measured["trainers"].get(name)
    share = min(1.0, (training.data.train_limit or measured["train"]) / measured["train"])
    return None if epoch is None else epoch * training.recipe.epochs * share


def _cell(cell: Cell, measured: dict[str, Any]) -> float | None:
    known = measured["metrics"].get(cell.metric.card.name)
    if known is None:
        return None
    data = cell.training.data
    if count := refits(cell):
        if not known["refits"]:
            return None  # where it was measured it did not apply
        share = min(1.0, (data.train_limit or measured["train"]) / measured["train"])
        epochs = cell.training.reference.epochs / measured["epochs"]
        return float(known["seconds"]) * share * epochs * count / known["refits"]
    return float(known["seconds"]) * min(1.0, (data.limit or measured["test"]) / measured["test"])


def of_run(folder: Path) -> dict[str, Any]:
    """Seconds per epoch of each trainer and per cell of each metric in a finished run (median, mean)."""
    book, made = ledger.read(folder), manifest.read(folder)
    assert book is not None
    seconds, store = made["seconds"], Store(folder)
    epochs: dict[str, list[float]] = defaultdict(list)
    planned: list[int] = []
    cells: dict[str, list[float]] = defaultdict(list)
    retrained: dict[str, list[int]] = defaultdict(list)
    for entry in book.entries:
        if store.has("models", entry.model_key) and f"models/{entry.model_key}" in seconds:
            info = store.info("models", entry.model_key)
            epochs[entry.trainer.partition(" ")[0]] += [row["seconds"] for row in info["log"]]
            planned.append(info["recipe"]["epochs"])
        if f"cells/{entry.key}" in seconds:
            cells[entry.metric].append(seconds[f"cells/{entry.key}"])
            retrained[entry.metric].append(_refits_done(store, entry.key))
    (name, data), *_ = made["data"].items()
    machine = made["invocations"][-1]["machine"]
    return {
        name: {
            "machine": f"{machine['cores']}-core {machine['processor']}",
            "train": data["train"], "test": data["test"],
            "epochs": median_low(planned),
            "trainers": {name: round(median(values), 4) for name, values in epochs.items()},
            "metrics": {
                # cells are added up, and an attack takes longest on the few models that hold
                name: {"seconds": round(fmean(values), 3), "refits": round(fmean(retrained[name]))}
                for name, values in cells.items()
            },
        }
    }  # fmt: skip


def _refits_done(store: Store, key: str) -> int:
    """Rows of the curves among a cell's scores: one per retraining."""
    scores, _ = store.arrays("cells", key)
    return sum(len(values) for name, values in scores.items() if "@" in name and values.ndim == 2)


if __name__ == "__main__":
    everything = json.loads(FILE.read_text(encoding="utf-8"))
    for run in map(Path, sys.argv[1:]):
        everything |= of_run(run)
    write_json(FILE, everything)
