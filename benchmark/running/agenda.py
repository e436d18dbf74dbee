"""What there is to do for a plan: each model's training, inspection and cells, and the ledger's lines for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.errors import IntegrityError
from benchmark.executors import Job
from benchmark.measuring.examples import kept
from benchmark.measuring.inspection import inspect, inspection_key
from benchmark.measuring.measure import assist, cell_key, measure, method, used
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import experiment, model_key, train
from benchmark.plan import Cell, Plan, Training
from benchmark.planner import plan as planned
from benchmark.storage import ledger
from benchmark.storage.ledger import Entry, Identity
from benchmark.store import Store

_CACHES = {"refit": "refits", "manifold": "manifolds"}
"""A service that a metric uses -> the kind of results that it keeps for all cells."""


@dataclass
class Agenda:
    """The cells of a plan, and every job that they take, in the order of the tables."""

    entries: list[Entry] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: frozenset[Identity] = frozenset()
    """The cells that the suite's file asks for, whatever the command does."""
    caches: dict[str, set[str]] = field(default_factory=dict)
    """Key of a cell -> the kinds of results that are kept on the way to it."""

    def add(self, job: Job) -> None:
        """A job, unless it is there."""
        self.jobs.setdefault(job.name, job)


def agenda(plan: Plan, place: Place, weights: Mapping[str, str]) -> Agenda:
    """All that a plan takes; `weights`: sha256 of each third party's model."""
    found, gallery = Agenda(asked=_asked(plan)), plan.suite.gallery
    keep = min(plan.suite.adversarials, len(dataset(plan.data, place.data).test))

    def trained(training: Training) -> str:
        key = model_key(place, training, weights)
        if training.trainer:
            title = f"train {_title(training)}"
            found.add(Job(f"models/{key}", title, train, (place, training, key)))
        return f"models/{key}"

    for training in plan.trainings:
        model, title = trained(training), _title(training)
        key = model.removeprefix("models/")
        look = inspection_key(place, training, key, gallery)
        facts = (place, training, key, look, gallery)
        found.add(Job(f"inspections/{look}", f"inspect {title}", inspect, facts, (model,)))
        for cell in (cell for cell in plan.cells if cell.training == training):
            line = _line(place, cell, weights, key, look, found.asked)
            others = [trained(other) for other in cell.surrogates]
            work = (place, cell, key, line.key, keep if _attacks(cell) else 0)
            aid = assist if "refit" in used(cell) else None
            what = f"{line.label} {line.threat}".strip() + f" of {title}"
            fits = _generator(cell) if "manifold" in used(cell) else ""
            found.add(Job(f"cells/{line.key}", what, measure, work, (model, *others), aid, fits))
            found.entries.append(line)
            found.caches[line.key] = {_CACHES[name] for name in used(cell) & set(_CACHES)}
    return found


def _asked(plan: Plan) -> frozenset[Identity]:
    whole = planned(plan.suite.whole) if plan.suite.whole else plan
    return frozenset(ledger.described(cell).identity for cell in whole.cells)


def _line(
    place: Place, cell: Cell, weights: Mapping[str, str], model: str, look: str, asked: frozenset[Identity]
) -> Entry:  # fmt: skip
    training, known = cell.training, prints(cell.training.data, place.data)
    return ledger.entry(
        cell, images=known.test, fit=known.fit if training.trainer else "",
        experiment=experiment(place, training, weights), method=method(place, cell),
        model_key=model, inspection_key=look, key=cell_key(place, cell, model),
        of_suite=ledger.described(cell).identity in asked,
    )  # fmt: skip


def _attacks(cell: Cell) -> bool:
    """Whether a metric is an attack: what it gives back is the harness's verdict on the examples it made."""
    names = {measure.name for measure in cell.metric.card.measures}
    return "robust_accuracy" in names and "grade" in used(cell)


def _generator(cell: Cell) -> str:
    """The generator that a metric has fitted, as its settings name it: one for all models of a data set."""
    given = dict(cell.metric.settings)
    return f"{given.get('generator', 'vae')} {given.get('epochs')} of {cell.training.data.name}"


def _title(training: Training) -> str:
    return f"{training.label}, seed {training.seed}" if training.trainer else training.model


def result(job: Job) -> tuple[str, str]:
    """Kind and key of what a job makes."""
    kind, _, key = job.name.partition("/")
    return kind, key


def is_done(store: Store, job: Job) -> bool:
    """Whether a job was done before: of an attack, for as many adversarial examples as are to be kept now."""
    if not store.has(*result(job)):
        return False
    if job.call is not measure:
        return True
    try:
        return kept(store, result(job)[1]) >= job.arguments[-1]
    except IntegrityError:
        return True  # told among the damaged
