"""A plan becomes records: the one loop. It knows nothing of any single method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark import ledger, manifest, records
from benchmark.errors import IntegrityError
from benchmark.examples import kept
from benchmark.executors import Job, Outcome, execute
from benchmark.inspection import inspect, inspection_key
from benchmark.ledger import Entry, Ledger
from benchmark.measuring import cell_key, measure, method, used
from benchmark.place import Place, dataset, prints
from benchmark.plan import Cell, Part, Plan, Training
from benchmark.store import Store, locked
from benchmark.training import experiment, model_key, third_party, train


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    computed: int
    """Jobs that were done now."""
    dropped: int
    """Cells of earlier commands that were measured on other images and left the tables."""
    failed: tuple[tuple[str, str], ...]
    """(title, reason) of jobs that failed."""
    damaged: tuple[str, ...]
    """Stored files that are not what had been written."""
    unfit: tuple[tuple[str, str], ...]
    """(WARN or FAIL, "model: check: code: remedy") of preflight checks that did not pass."""

    def status(self, strict: bool) -> int:
        """Exit status of the command; `strict` makes failed preflight checks count (warnings never do)."""
        if self.damaged:
            return IntegrityError.status
        if self.failed:
            return 1
        return 3 if strict and any(level == "FAIL" for level, _ in self.unfit) else 0


Watch = Callable[[Outcome], None]


def run(
    plan: Plan, place: Place, workers: int, *,
    begin: Callable[[list[Job]], Watch], words: str,
) -> Result:  # fmt: skip
    """Do what of a plan is not done yet, and write the records. `begin` is told the jobs and then each outcome.

    Data, third-party models and the user's own files are loaded before anything is written, so that what is wrong with
    them leaves no trace.
    """
    data = dataset(plan.data, place.data)
    weights = {
        t.model: third_party(t.model, data).sha256 for t in plan.trainings if t.trainer is None
    }
    _import_own(plan)
    ledger.amended(ledger.read(place.folder), plan.suite.name, (), place.folder)
    entries, jobs = _jobs(plan, place, weights)
    with locked(place.folder):
        store = place.store
        store.discard_unfinished()
        old = ledger.read(place.folder)
        book = ledger.amended(old, plan.suite.name, entries, place.folder)
        ledger.write(place.folder, book)
        if not store.has("images", prints(plan.data, place.data).test):
            facts = {"ids": data.test.ids, "labels": data.test.y}
            store.save("images", prints(plan.data, place.data).test, facts, {})
        waiting = [job for job in jobs if not _there(store, job)]
        log = manifest.Log(place.folder, words, workers, place.device, weights=weights)
        if waiting or not manifest.read(place.folder):
            log.write(plan, data, [])
        watch = begin(waiting)
        outcomes: list[Outcome] = []
        try:
            for outcome in execute(waiting, workers):
                outcomes.append(outcome)
                watch(outcome)
                book = _noted(book, outcome, place.folder)
        finally:
            store.discard_locks()
            book = _cleared(book, store)
            ledger.write(place.folder, book)
            if outcomes:
                log.write(plan, data, outcomes)
            records.refresh(place.folder)
        damaged = _damaged(store, [job for job in jobs if job not in waiting])
    kept = {entry.identity for entry in book.entries}
    dropped = sum(entry.identity not in kept for entry in old.entries) if old else 0
    return _summary(store, entries, outcomes, dropped, damaged)


def _damaged(store: Store, jobs: list[Job]) -> tuple[str, ...]:
    """What is wrong with results that were there before."""
    found = []
    for job in jobs:
        try:
            store.info(*_result(job))
        except IntegrityError as error:
            found.append(str(error))
    return tuple(found)


def _import_own(plan: Plan) -> None:
    """Import the user's own files now: CardError if one cannot be."""
    parts: set[Part] = {cell.metric for cell in plan.cells}
    trainings = [*plan.trainings, *(cell.surrogate for cell in plan.cells if cell.surrogate)]
    parts |= {training.trainer for training in trainings if training.trainer}
    for part in parts:
        if not part.card.module:
            part.card.load()


def _jobs(
    plan: Plan, place: Place, weights: Mapping[str, str]
) -> tuple[tuple[Entry, ...], list[Job]]:
    """The ledger's lines, and every job of the plan: each model's training, inspection and cells together."""
    known, gallery = prints(plan.data, place.data), plan.suite.gallery
    images, fit = known.test, known.fit
    keep = min(plan.suite.adversarials, len(dataset(plan.data, place.data).test))
    entries: list[Entry] = []
    jobs: dict[str, Job] = {}

    def add(job: Job) -> None:
        jobs.setdefault(job.name, job)

    def trained(training: Training) -> str:
        key = model_key(place, training, weights)
        if training.trainer:
            add(Job(f"models/{key}", f"train {_title(training)}", train, (place, training, key)))
        return key

    for training in plan.trainings:
        model, title = trained(training), _title(training)
        needs = (f"models/{model}",)
        look = inspection_key(place, training, model, gallery)
        facts = (place, training, model, look, gallery)
        add(Job(f"inspections/{look}", f"inspect {title}", inspect, facts, needs))
        for cell in (cell for cell in plan.cells if cell.training == training):
            key = cell_key(place, cell, model)
            other = (f"models/{trained(cell.surrogate)}",) if cell.surrogate else ()
            line = ledger.entry(
                cell, images=images, fit=fit if training.trainer else "",
                experiment=experiment(place, training, weights), method=method(place, cell),
                model_key=model, inspection_key=look, key=key,
            )  # fmt: skip
            entries.append(line)
            what = f"{line.label} {line.threat}".strip()
            work = (place, cell, model, key, keep if _attacks(cell) else 0)
            add(Job(f"cells/{key}", f"{what} of {title}", measure, work, needs + other))
    return tuple(entries), list(jobs.values())


def _attacks(cell: Cell) -> bool:
    """Whether a metric is an attack: what it gives back is the harness's verdict on the examples it made."""
    names = {measure.name for measure in cell.metric.card.measures}
    return "robust_accuracy" in names and "grade" in used(cell)


def _title(training: Training) -> str:
    return f"{training.label}, seed {training.seed}" if training.trainer else training.model


def _result(job: Job) -> tuple[str, str]:
    kind, _, key = job.name.partition("/")
    return kind, key


def _there(store: Store, job: Job) -> bool:
    """Whether a job was done before: of an attack, for as many adversarial examples as are to be kept now."""
    if not store.has(*_result(job)):
        return False
    if job.call is not measure:
        return True
    try:
        return kept(store, _result(job)[1]) >= job.arguments[-1]
    except IntegrityError:
        return True  # told among the damaged


def _noted(book: Ledger, outcome: Outcome, folder: Path) -> Ledger:
    """The ledger with the reason of a failure, in its folder at once (the run may be killed); the details in a log."""
    kind, key = _result(outcome.job)
    if outcome.error is None:
        return book
    if outcome.error.trace:
        with (folder / "errors.log").open("a", encoding="utf-8") as log:
            log.write(f"{manifest.now()} {outcome.job.title}\n{outcome.error.trace}\n")
    if kind == "models":
        return book  # its cells fail with it, each with this reason
    noted = replace(book, failures={**book.failures, key: outcome.error.reason})
    ledger.write(folder, noted)
    return noted


def _cleared(book: Ledger, store: Store) -> Ledger:
    """The ledger without the reasons of what has a result by now, or is asked for no longer."""
    wanted = {("cells", e.key) for e in book.entries}
    wanted |= {("inspections", e.inspection_key) for e in book.entries}
    open_keys = {key for kind, key in wanted if not store.has(kind, key)}
    return replace(book, failures={k: v for k, v in book.failures.items() if k in open_keys})


def _summary(
    store: Store, entries: tuple[Entry, ...], outcomes: list[Outcome], dropped: int, damaged: tuple[str, ...]
) -> Result:  # fmt: skip
    unfit: list[tuple[str, str]] = []
    seen = set()
    for entry in entries:
        key = entry.inspection_key
        if key in seen or not store.has("inspections", key):
            continue
        seen.add(key)
        model = entry.model if entry.trainer == "pretrained" else entry.trainer
        try:
            verdict = store.info("inspections", key)["preflight"]
        except IntegrityError:
            continue  # told among the damaged
        name = f"{entry.dataset}, {model}, seed {entry.seed}"
        unfit += [
            (level, f"{name}: {check}: {code}: {remedy}")
            for check, (level, code, remedy) in verdict.items()
            if level != "PASS"
        ]
    return Result(
        folder=store.folder,
        computed=sum(outcome.error is None for outcome in outcomes),
        dropped=dropped,
        failed=tuple((o.job.title, o.error.reason) for o in outcomes if o.error),
        damaged=damaged + tuple(o.error.reason for o in outcomes if o.error and o.error.damage),
        unfit=tuple(unfit),
    )
