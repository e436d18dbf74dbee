"""How far a run is: read from its folder alone, by whoever may read it, while it runs or later. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.errors import BenchError
from benchmark.plan import Plan
from benchmark.planner import plan
from benchmark.running import live, refresh
from benchmark.running.costs import guesses
from benchmark.running.expected import Expected, Left
from benchmark.running.live import Note, Run
from benchmark.storage import ledger, manifest
from benchmark.storage.ledger import Entry, Ledger
from benchmark.store import Store, StoreError, no_plan
from benchmark.suite import Suite

STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class Status:
    """The cells of a folder by state, the run that is in progress there, and what is left."""

    suite: str
    cells: dict[str, int]
    """State -> number."""
    models: tuple[int, int]
    """Trained, of how many."""
    reasons: dict[str, str]
    """Failed cell -> why."""
    run: Run | None
    jobs: tuple[Note, ...]
    """What is being done now, the longest first."""
    workers: int
    left: Left
    commands: tuple[str, ...]
    """Those that compute what has no result yet, the last one first."""

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "suite": self.suite, **self.cells, "reasons": self.reasons,
            "models": {"done": self.models[0], "all": self.models[1]},
            "run": self.run and asdict(self.run),
            "jobs": [{**asdict(note), "elapsed": round(note.elapsed, 1)} for note in self.jobs],
            "left": {"seconds": round(self.left.seconds, 1), "unknown": self.left.unknown},
        }  # fmt: skip


def status(folder: Path) -> Status:
    """The status of a folder; StoreError if it holds no run."""
    book, store, made = ledger.read(folder), Store(folder), manifest.read(folder)
    if book is None:
        raise StoreError(no_plan(folder))
    run = live.run_in(folder)
    notes = live.notes(folder) if run else []
    at = {note.name for note in notes}
    stale = refresh.asked(folder, book.entries)
    states = [_state(book, store, line, at, stale) for line in book.entries]
    counted = Counter(states)
    models = {line.model_key for line in book.entries if line.fit}
    invocations = made.get("invocations", [])
    last = invocations[-1] if invocations else {}
    missing = [x for x, state in zip(book.entries, states, strict=True) if state != "done"]
    workers = run.workers if run else last.get("workers", 1)
    planned = _plan(last)
    expected = Expected(
        book,
        guesses(planned) if planned else {},
        {**made.get("seconds", {}), **live.seconds(folder)},
    )
    # the command that continues tries failed cells again, one that runs does not
    missed = {"waiting", "running"} | ({"failed"} if run is None else set())
    waiting = _waiting(book, store, states, missed) - at
    return Status(
        suite=book.suite,
        cells={state: counted[state] for state in STATES},
        models=(sum(store.has("models", key) for key in models), len(models)),
        reasons={
            _title(line): book.failures[line.key]
            for line, state in zip(book.entries, states, strict=True)
            if state == "failed"
        },
        run=run, jobs=tuple(notes), workers=workers,
        left=expected.left(sorted(waiting), notes, workers), commands=_commands(invocations, missing),
    )  # fmt: skip


def _state(book: Ledger, store: Store, line: Entry, at: set[str], stale: frozenset[str]) -> str:
    if f"cells/{line.key}" in at:
        return "running"
    return "waiting" if line.key in stale else book.state(store, line)


def _waiting(book: Ledger, store: Store, states: list[str], missed: set[str]) -> set[str]:
    """The jobs that have no result yet of the cells in these states."""
    wanted: set[tuple[str, str]] = set()
    cells: set[tuple[str, str]] = set()
    for line, state in zip(book.entries, states, strict=True):
        if state in missed:
            cells.add(("cells", line.key))
            wanted |= {("models", line.model_key)} if line.fit else set()
            wanted.add(("inspections", line.inspection_key))
    return {f"{kind}/{key}" for kind, key in cells | {w for w in wanted if not store.has(*w)}}


def _title(line: Entry) -> str:
    what = f"{line.label} {line.threat}".strip()
    return f"{what} of {line.who}"


def _commands(invocations: list[dict[str, Any]], missing: Iterable[Entry]) -> tuple[str, ...]:
    """For each cell the last command that asked for it, as it has options that the others may not have."""
    left, found = {line.identity for line in missing}, []
    for invocation in reversed(invocations):
        planned = _plan(invocation) if left else None
        asked = {ledger.described(cell).identity for cell in planned.cells} if planned else set()
        if left & asked:
            found.append(invocation["command"])
            left -= asked
    # none in a folder whose run was killed at its very beginning, or for cells whose files are no longer there
    last = invocations[-1]["command"] if invocations else "the same command"
    return tuple(dict.fromkeys(found)) or (last,)


def _plan(invocation: dict[str, Any]) -> Plan | None:
    """What an invocation asked for; none if its suite cannot be planned any more."""
    try:
        return plan(Suite(**invocation["definition"], file="manifest.json"))
    except (BenchError, ValidationError, KeyError, TypeError):
        return None
