"""A plan becomes records: the one loop. It knows nothing of any single method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.datasets.base import Dataset
from benchmark.errors import IntegrityError, Unwritable, storage_ended
from benchmark.executors import Execute, Job, Outcome
from benchmark.executors import execute as in_processes
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import third_party
from benchmark.models.base import ModelError
from benchmark.plan import Part, Plan
from benchmark.running import live, refresh
from benchmark.running.agenda import agenda, is_done, result
from benchmark.running.announced import announced
from benchmark.running.masked import masked
from benchmark.running.progress import with_needing
from benchmark.storage import ledger, manifest, records, shared
from benchmark.storage.ledger import Entry, Ledger
from benchmark.storage.thumbnails import keep_images
from benchmark.store import Store


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
    causes: tuple[tuple[str, str], ...]
    """The same of those that failed for no other, with how many did for them."""
    damaged: tuple[str, ...]
    """Stored files that are not what had been written."""
    unfit: tuple[tuple[str, str], ...]
    """(WARN or FAIL, "model: check: code: remedy") of preflight checks that did not pass."""
    masked: tuple[tuple[str, str], ...] = ()
    """The same of masking verdicts, "model: code: evidence; remedy"."""

    def status(self, strict: bool) -> int:
        """Exit status of the command; `strict` makes a FAIL of preflight or masking count (warnings never do)."""
        if self.damaged:
            return IntegrityError.status
        if self.failed:
            return 1
        alarms = [level for level, _ in (*self.unfit, *self.masked)]
        return 3 if strict and "FAIL" in alarms else 0


Watch = Callable[[Outcome], None]


def run(
    plan: Plan, place: Place, workers: int, *,
    begin: Callable[[list[Job]], Watch], words: str, execute: Execute = in_processes,
    again: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None,
) -> Result:  # fmt: skip
    """Do what of a plan is not done yet, and write the records. `begin` is told the jobs and then each outcome.

    `again` names metrics whose cells are computed although they are there; `tell` is told what else is worth knowing.
    Data, third-party models and the user's own files are loaded before anything is written, so that what is wrong with
    them leaves no trace. Of several third-party models one that cannot be loaded fails alone.
    """
    # a user's code may go to another working directory in the middle of a job
    place = replace(
        place, folder=place.folder.absolute(), data=place.data and place.data.absolute()
    )
    data = dataset(plan.data, place.data)
    weights, unusable = _third_party(plan, data)
    _import_own(plan)
    ledger.amended(ledger.read(place.folder), plan.suite.name, (), place.folder)
    todo = agenda(plan, place, {**weights, **unusable})
    entries, jobs, store = tuple(todo.entries), list(todo.jobs.values()), place.store
    wanted = refresh.named(again, entries)
    with live.writing(place.folder, words, workers), _storage_told(place.folder):
        store.discard_unfinished()
        shared.note(place.folder, place.results)
        old = ledger.read(place.folder)
        caches = {kind for key in wanted for kind in todo.caches[key]}
        stay = refresh.ask(store, wanted, caches)
        book = ledger.amended(old, plan.suite.name, entries, place.folder, todo.asked)
        ledger.write(place.folder, book)
        keep_images(store, prints(plan.data, place.data).test, data.test)
        stale = refresh.asked(place.folder, entries)
        waiting = [job for job in jobs if result(job)[1] in stale or not is_done(store, job)]
        log = manifest.Log(place.folder, words, workers, place.device, weights=weights)
        # reports are made from what the manifest says of the suite: what is new there counts though nothing is computed
        if waiting or not log.reports(plan):
            _logged(log, plan, data, [])
        watch = begin(waiting)
        for line in (*stay, *ledger.changes(old, entries, store)):
            tell(line)
        outcomes: list[Outcome] = []
        try:
            work = [announced(job, place.folder) for job in waiting]
            for outcome in execute(work, workers, place.device):
                outcomes.append(outcome)
                watch(outcome)
                book = _noted(book, outcome, place.folder, tell)
        finally:
            store.discard_locks()
            store.discard_unfinished()
            book = _cleared(book, store)
            ledger.write(place.folder, book)
            if outcomes:
                _logged(log, plan, data, outcomes)
            records.refresh(place.folder)
        new = {job.name for job in waiting}
        damaged = _damaged(store, [job for job in jobs if job.name not in new])
    kept = {entry.identity for entry in book.entries}
    dropped = sum(entry.identity not in kept for entry in old.entries) if old else 0
    return _summary(store, entries, outcomes, dropped, damaged)


@contextmanager
def _storage_told(folder: Path) -> Iterator[None]:
    """A disk that is full, or has become read-only, ends the run: no further job could keep its result."""
    try:
        yield
    except Unwritable as error:
        what = str(error)
    except OSError as error:
        if not storage_ended(error):
            raise
        what = f"{error.strerror}: {error.filename or folder}"
    else:
        return
    raise Unwritable(
        f"cannot go on writing to {folder} ({what}). What is finished is kept: when there is room, continue with the "
        "same command"
    )


def _logged(log: manifest.Log, plan: Plan, data: Dataset, outcomes: Sequence[Outcome]) -> None:
    """The manifest, with the seconds of all jobs, those of a killed run included."""
    log.write(plan, data, outcomes, live.seconds(log.folder))
    live.seconds_noted(log.folder)


def _damaged(store: Store, jobs: list[Job]) -> tuple[str, ...]:
    """What is wrong with results that were there before."""
    found = []
    for job in jobs:
        try:
            store.info(*result(job))
        except IntegrityError as error:
            found.append(str(error))
    return tuple(found)


def _third_party(plan: Plan, data: Dataset) -> tuple[dict[str, str], dict[str, str]]:
    """sha256 of each third party's model; and why some cannot be loaded, which is what their cells fail with.

    ModelError where none can.
    """
    found, wrong = dict[str, str](), dict[str, str]()
    for model in dict.fromkeys(t.model for t in plan.trainings if t.trainer is None):
        try:
            found[model] = third_party(model, data).sha256
        except ModelError as error:
            wrong[model] = str(error)
    if wrong and not found:
        raise ModelError("\n".join(wrong.values()))
    return found, wrong


def _import_own(plan: Plan) -> None:
    """Import the user's own files now: CardError if one cannot be."""
    parts: set[Part] = {cell.metric for cell in plan.cells}
    trainings = [*plan.trainings, *(other for cell in plan.cells for other in cell.surrogates)]
    parts |= {training.trainer for training in trainings if training.trainer}
    for part in parts:
        if not part.card.module:
            part.card.load()


def _noted(book: Ledger, outcome: Outcome, folder: Path, tell: Callable[[str], None]) -> Ledger:
    """The ledger with the reason of a failure, in its folder at once (the run may be killed); the details in a log."""
    (kind, key), error = result(outcome.job), outcome.error
    for line in live.end(folder, outcome.job.name, None if error else outcome.seconds):
        tell(f"{outcome.job.title}: {line}")
    if error is None:
        if kind == "cells":
            refresh.answered(folder, key)
        return book
    if error.unwritable:
        raise Unwritable(error.reason)
    if error.trace:
        with (folder / "errors.log").open("a", encoding="utf-8") as log:
            log.write(f"{manifest.now()} {outcome.job.title}\n{error.trace}\n")
    if kind == "models":
        return book  # its cells fail with it, each with this reason
    noted = replace(book, failures={**book.failures, key: error.reason})
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
        try:
            verdict = store.info("inspections", key)["preflight"]
        except IntegrityError:
            continue  # told among the damaged
        name = f"{entry.dataset}, {entry.who}"
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
        causes=tuple(_causes(outcomes)),
        damaged=damaged + tuple(o.error.reason for o in outcomes if o.error and o.error.damage),
        unfit=tuple(unfit),
        masked=tuple(masked(store, entries)),
    )


def _causes(outcomes: list[Outcome]) -> Iterator[tuple[str, str]]:
    needing = Counter(outcome.error.cause for outcome in outcomes if outcome.error)
    for outcome in outcomes:
        if outcome.error and not outcome.error.cause:
            yield outcome.job.title, with_needing(outcome.error, needing[outcome.job.name])
