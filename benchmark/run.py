"""A plan becomes records: the one loop. It knows nothing of any single method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark import keys, ledger, manifest, records, work
from benchmark.cards import ROOT
from benchmark.errors import IntegrityError
from benchmark.executors import Job, Outcome, execute
from benchmark.ledger import Entry, Ledger
from benchmark.plan import Plan, Training
from benchmark.store import Store, locked, write_json

# what the harness itself does for metrics: the verdict on adversarial examples, the retrained classifier, the VAE
_HARNESS = ("benchmark/grading.py", "trainers/standard.py", "metrics/manifold/_vae.py")


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    computed: int
    """Jobs that were done now."""
    failed: tuple[tuple[str, str], ...]
    """(title, reason) of jobs that failed."""
    damaged: bool
    """A stored file was not what had been written."""
    unfit: tuple[str, ...]
    """"model: check" of preflight checks that did not pass."""

    def status(self, strict: bool) -> int:
        """Exit status of the command; `strict` makes failed preflight checks count."""
        if self.damaged:
            return IntegrityError.status
        if self.failed:
            return 1
        return 3 if strict and self.unfit else 0


Watch = Callable[[Outcome], None]


def run(
    plan: Plan, place: work.Place, workers: int, *,
    begin: Callable[[list[Job]], Watch], words: str,
) -> Result:  # fmt: skip
    """Do what of a plan is not done yet, and write the records. `begin` is told the jobs and then each outcome.

    Data and third-party models are loaded before anything is written: DataError and ModelError leave no trace.
    """
    data = work.dataset(plan.data, place.data)
    images = data.fingerprint()
    weights = {
        training.model: work.third_party(training.model, data).sha256
        for training in plan.trainings
        if training.trainer is None
    }
    owner = ledger.read(place.folder)
    ledger.amended(owner, plan.suite.name, (), place.folder)
    with locked(place.folder):
        store = place.store
        store.discard_unfinished()
        entries, jobs = _jobs(plan, place, images, weights)
        book = ledger.amended(ledger.read(place.folder), plan.suite.name, entries, place.folder)
        ledger.write(place.folder, book)
        if not store.has("images", images):
            store.save("images", images, {"ids": data.test.ids, "labels": data.test.y}, {})
        waiting = [job for job in jobs if not store.has(*_result(job))]
        log = manifest.Log(place.folder, words, workers, place.device)
        outcomes: list[Outcome] = []
        watch = begin(waiting)
        try:
            for outcome in execute(waiting, workers):
                outcomes.append(outcome)
                watch(outcome)
                book = _noted(book, outcome, place.folder)
        finally:
            if waiting:
                book = _cleared(book, store)
                ledger.write(place.folder, book)
                _write(place.folder, book)
                log.write(plan, data, outcomes)
    return _summary(place.folder, book, outcomes)


def _jobs(
    plan: Plan, place: work.Place, images: str, weights: Mapping[str, str]
) -> tuple[tuple[Entry, ...], list[Job]]:
    """The ledger's lines, and every job of the plan: each model's training, inspection and cells together."""
    entries: list[Entry] = []
    jobs: list[Job] = []
    for training in plan.trainings:
        model_key = _model_key(training, images, weights)
        title = f"{training.label}, seed {training.seed}" if training.trainer else training.model
        if training.trainer:
            jobs.append(
                Job(
                    f"models/{model_key}",
                    f"train {title}",
                    work.train,
                    (place, training, model_key),
                )
            )
        gallery = plan.suite.gallery
        inspection = keys.key(
            model_key, images, gallery.model_dump(),
            keys.code_version(ROOT / "benchmark/preflight.py"),
            keys.code_version(ROOT / "metrics/attribution.py"),
        )  # fmt: skip
        needs = (f"models/{model_key}",)
        jobs.append(
            Job(
                f"inspections/{inspection}", f"inspect {title}", work.inspect,
                (place, training, model_key, inspection, gallery), needs,
            )
        )  # fmt: skip
        for cell in (cell for cell in plan.cells if cell.training == training):
            key = keys.key(
                model_key, keys.part_facts(cell.metric), cell.threat, training.seed,
                training.reference, [keys.code_version(ROOT / file) for file in _HARNESS],
            )  # fmt: skip
            line = ledger.entry(cell, images, model_key, inspection, key)
            entries.append(line)
            what = f"{line.label} {line.threat}".strip()
            jobs.append(
                Job(
                    f"cells/{key}",
                    f"{what} of {title}",
                    work.measure,
                    (place, cell, model_key, key),
                    needs,
                )
            )
    return tuple(entries), list({job.name: job for job in jobs}.values())


def _model_key(training: Training, images: str, weights: Mapping[str, str]) -> str:
    """What a trained model depends on, or which file a third party's is."""
    if training.trainer is None:
        spec = work.parse(training.model)
        code = keys.code_version(ROOT / f"benchmark/models/{spec.architecture}.py")
        # the weights say which file it is, wherever it lies
        facts = replace(spec, text="", path=Path())
        return keys.key(weights[training.model], facts, code, images)
    assert training.recipe is not None
    return keys.key(
        images, keys.part_facts(training.trainer), training.recipe, training.threat, training.seed,
        keys.network_facts(training.recipe.architecture, training.data.name),
    )  # fmt: skip


def _result(job: Job) -> tuple[str, str]:
    kind, _, key = job.name.partition("/")
    return kind, key


def _noted(book: Ledger, outcome: Outcome, folder: Path) -> Ledger:
    """The ledger with a failed cell's reason, in its folder at once: the run may be killed."""
    kind, key = _result(outcome.job)
    if outcome.error is None or kind != "cells":
        return book
    noted = replace(book, failures={**book.failures, key: _reason(outcome.error)})
    ledger.write(folder, noted)
    return noted


def _cleared(book: Ledger, store: Store) -> Ledger:
    """The ledger without the reasons of cells that have a result by now, or are asked for no longer."""
    wanted = {entry.key for entry in book.entries}
    kept = {k: v for k, v in book.failures.items() if k in wanted and not store.has("cells", k)}
    return replace(book, failures=kept)


def _write(folder: Path, book: Ledger) -> None:
    records.write(folder, *records.collect(folder, book))
    store, seen, index = Store(folder), set(), []
    for entry in book.entries:
        if entry.inspection_key not in seen and store.has("inspections", entry.inspection_key):
            seen.add(entry.inspection_key)
            path = store.path("inspections", entry.inspection_key)
            facts = {name: getattr(entry, name) for name in ("dataset", "model", "trainer", "seed")}
            index.append({**facts, "file": f"../{path.relative_to(folder).as_posix()}"})
    write_json(folder / "gallery" / "index.json", index)


def _summary(folder: Path, book: Ledger, outcomes: list[Outcome]) -> Result:
    store = Store(folder)
    verdicts = {
        f"{e.trainer if e.trainer != 'pretrained' else e.model}, seed {e.seed}": store.info(
            "inspections", e.inspection_key
        )["preflight"]
        for e in book.entries
        if store.has("inspections", e.inspection_key)
    }
    return Result(
        folder=folder,
        computed=sum(outcome.error is None for outcome in outcomes),
        failed=tuple((o.job.title, _reason(o.error)) for o in outcomes if o.error),
        damaged=any(isinstance(outcome.error, IntegrityError) for outcome in outcomes),
        unfit=tuple(
            f"{model}: {check}: {remedy}"
            for model, verdict in verdicts.items()
            for check, remedy in verdict.items()
            if remedy
        ),
    )


def _reason(error: BaseException) -> str:
    """One line for a table: the kind of error unless it is one of ours, and what it says."""
    text = " ".join(str(error).split())
    ours = type(error).__module__.partition(".")[0] in ("benchmark", "trainers", "metrics")
    return text if ours else f"{type(error).__name__}: {text}"
