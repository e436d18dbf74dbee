"""How long a plan will take, from times measured before.

`python -m benchmark.running.costs FOLDER ...` takes what finished runs needed into costs.json (beside this file), in
the place of what was known of their data sets.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean, median, median_low, mode
from typing import Any, Literal, NamedTuple

from benchmark.datasets.defaults import defaults
from benchmark.models import spec
from benchmark.plan import Cell, DataSpec, Part, Plan, Training
from benchmark.running.expected import in_words
from benchmark.storage import ledger, manifest
from benchmark.storage.atomic import write_json
from benchmark.store import Store

FILE = Path(__file__).parent / "costs.json"


def overview(plan: Plan, workers: int) -> dict[str, Any]:
    """Counts of a plan, and what is known of its time."""
    return {
        "suite": plan.suite.name,
        "dataset": plan.data.name,
        "models": len(plan.trainings),
        "trainings": sum(training.trainer is not None for training in plan.trainings),
        "cells": len(plan.cells),
        "refits": sum(refits(cell) for cell in plan.cells) + _shared_refits(plan),
        "estimate": _estimate(plan, workers),
    }


_ENDS = {"diff_roar": 2}
"""A metric that retrains with the most and with the least important pixels."""

SHARED = 3
"""metrics.fidelity._removal.SHARED, for whose import a plan would wait for torch."""


def refits(cell: Cell) -> int:
    """Retrainings of a cell's own maps, the blurred ones included: not those of the controls that all models share."""
    settings = _settings(cell.metric)
    if "retrains" not in settings:
        return 0
    maps = 1 + ("blurred" in settings["controls"])
    return (
        _ENDS.get(cell.metric.card.name, 1)
        * maps
        * settings["retrains"]
        * len(settings["percents"])
    )


def _shared_refits(plan: Plan) -> int:
    """Retrainings of random maps and of edges, which all models, seeds and attributions share."""
    found = {}
    for cell in plan.cells:
        if refits(cell):
            settings = _settings(cell.metric)
            controls = {"random", *settings["controls"]} - {"blurred"}
            name, percents, fill = cell.metric.card.name, settings["percents"], settings["fill"]
            count = max(settings["retrains"], SHARED) * len(controls) * len(percents)
            found[name, tuple(percents), fill] = _ENDS.get(name, 1) * count
    return sum(found.values())


def _settings(metric: Part) -> dict[str, Any]:
    return {p.name: p.default for p in metric.card.parameters} | dict(metric.settings)


class Guess(NamedTuple):
    """How long a job will take."""

    seconds: float = 0.0
    unmeasured: frozenset[str] = frozenset()
    """What of it nobody has measured, in words; then the seconds say nothing."""


def guesses(plan: Plan) -> dict[tuple[object, ...], float]:
    """Seconds of trainings and cells by what they are (`Entry.training`, `Entry.identity`), measured on some machine.

    What was never measured on the plan's data set, or with another architecture, is left out. Without a limit the data
    set counts as whole: where some of its files are missing, it takes less.
    """
    measured = _measured(plan)
    if measured is None:
        return {}
    found: dict[tuple[object, ...], Guess] = {}
    for cell in plan.cells:
        line = ledger.described(cell)
        found[line.identity] = _cell(cell, measured)
        found[line.training] = _training(cell.training, measured)
    return {name: guess.seconds for name, guess in found.items() if not guess.unmeasured}


def _measured(plan: Plan) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(FILE.read_text(encoding="utf-8")).get(plan.data.name)
    return found


def _estimate(plan: Plan, workers: int) -> str:
    measured = _measured(plan)
    if measured is None:
        return f"No estimate: nothing was measured on {plan.data.name} yet."
    cells = {cell: _cell(cell, measured) for cell in plan.cells}
    needed = dict.fromkeys(model for cell in cells for model in _models(cell))
    trainings = {training: _training(training, measured) for training in needed}
    jobs = [*trainings.values(), *cells.values()]
    unmeasured = sorted({words for job in jobs for words in job.unmeasured})
    missing = f"what was not measured on {plan.data.name} ({', '.join(unmeasured)})"
    if not any(job.seconds for job in jobs):
        return f"No estimate: it takes only {missing}."
    total = in_words(_until_the_end(cells, trainings, workers))
    without = f", without {missing}" if unmeasured else ""
    about = "More than" if unmeasured else "About"
    return f"{about} {total} with {workers} worker(s) of {measured['machine']}{without}."


def _until_the_end(
    cells: Mapping[Cell, Guess], trainings: Mapping[Training, Guess], workers: int
) -> float:
    """Seconds of all jobs on these workers: one long training or cell keeps them all waiting."""
    work = sum(job.seconds for job in (*trainings.values(), *cells.values()))
    ends = (
        max(trainings[model].seconds for model in _models(cell))
        # what retrains is helped by whoever is idle
        + job.seconds / (workers if refits(cell) else 1)
        for cell, job in cells.items()
    )
    return max(work / workers, *ends)


def _training(training: Training, measured: dict[str, Any]) -> Guess:
    if training.trainer is None or training.recipe is None:
        return Guess()
    # a budget of cost pays for as much work as the epochs of standard training
    name = "standard" if training.recipe.budget == "cost" else training.trainer.card.name
    unmeasured = _others([training.recipe.architecture], measured)
    if unmeasured or name not in measured["trainers"]:
        return Guess(unmeasured=unmeasured or frozenset([name]))
    epochs = training.recipe.epochs * _share("train", training.data, measured)
    return Guess(measured["trainers"][name] * epochs)


def _cell(cell: Cell, measured: dict[str, Any]) -> Guess:
    name, data, count = cell.metric.card.name, cell.training.data, refits(cell)
    known = measured["metrics"].get(name)
    unmeasured = _others(_architectures(cell), measured)
    # where a run measured no retrainings, the metric did not apply
    if unmeasured or known is None or (count and not known["refits"]):
        return Guess(unmeasured=unmeasured or frozenset([name]))
    if not count:
        return Guess(known["seconds"] * _share("test", data, measured))
    epochs = cell.training.reference.epochs / measured["epochs"]
    share = epochs * _share("train", data, measured)
    return Guess(known["seconds"] * share * count / known["refits"])


def _others(architectures: Iterable[str], measured: dict[str, Any]) -> frozenset[str]:
    """The architectures that the times say nothing of: a step of one may take a hundred times that of another."""
    others = set(architectures) - {measured["architecture"]}
    return frozenset(f"anything with {name}" for name in others)


def _architectures(cell: Cell) -> Iterator[str]:
    """Those of the models that a cell needs, and of the classifier that it retrains."""
    yield from map(_architecture, _models(cell))
    if refits(cell):
        yield cell.training.reference.architecture


def _models(cell: Cell) -> list[Training]:
    """The model that is measured, and those that it is attacked by."""
    return [cell.training, *cell.surrogates]


def _architecture(training: Training) -> str:
    """A third party's model that names none is one of its own."""
    if training.recipe is not None:
        return training.recipe.architecture
    found = spec.parse(training.model)
    return found.architecture if isinstance(found, spec.FileSpec) else found.text


def _share(part: Literal["train", "test"], data: DataSpec, measured: dict[str, Any]) -> float:
    """The images that are used, as a multiple of those that were measured.

    As many as were measured count where neither a limit nor the data set says it: in a folder of pictures.
    """
    limit, split = {"train": (data.train_limit, "train"), "test": (data.limit, data.split)}[part]
    there = defaults(data.name).images[split] // (2 if split == "validation" else 1)
    return min(filter(None, (limit, there)), default=measured[part]) / measured[part]


def of_run(folder: Path) -> dict[str, Any]:
    """Seconds per epoch of each trainer and per cell of each metric in a finished run (median, mean).

    Of the architecture that most models were trained with; other ones, and models of others, are left out.
    """
    book, made = ledger.read(folder), manifest.read(folder)
    assert book is not None
    seconds, store = made["seconds"], Store(folder)
    trained = [entry for entry in book.entries if entry.fit]
    architecture = mode(entry.model for entry in trained)
    epochs: dict[str, list[float]] = defaultdict(list)
    planned: list[int] = []
    cells: dict[str, list[float]] = defaultdict(list)
    retrained: dict[str, list[int]] = defaultdict(list)
    for entry in (entry for entry in trained if entry.model == architecture):
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
            "architecture": architecture,
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
    """What `refits` says of its cell: rows of the curves among its scores, and as many for the blurred map."""
    scores, _ = store.arrays("cells", key)
    own = [
        values for name, values in scores.items()
        if "@" in name and values.ndim == 2 and not name.startswith(("random_", "edge_", "blurred_"))
    ]  # fmt: skip
    return sum(map(len, own)) * (1 + ("blurred_score" in scores))


if __name__ == "__main__":
    everything = json.loads(FILE.read_text(encoding="utf-8"))
    for run in map(Path, sys.argv[1:]):
        everything |= of_run(run)
    write_json(FILE, everything)
