"""plan.json of a run's folder: every cell that was asked for there, and the key of its result.

A folder belongs to one suite. Giving the command again with more seeds, models or metrics adds their cells; a cell
whose key has changed (other code, data or settings of the suite) takes the place of its predecessor. No torch.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.keys import key
from benchmark.plan import Cell
from benchmark.storage.atomic import write_json
from benchmark.store import Store, StoreError

Identity = tuple[object, ...]
"""What stands for a training or a cell, whatever its key."""


@dataclass(frozen=True)
class Entry:
    """A cell as the reports name it, and where its results are."""

    dataset: str
    model: str
    trainer: str
    train_threat: str
    reconstruction: bool
    seed: int
    threat: str
    metric: str
    family: str
    label: str
    params: str
    directions: dict[str, str]
    """Measure -> "higher", "lower" or ""; the first is the metric's headline."""
    ranges: dict[str, str]
    """Measure -> its range as the card says."""
    images: str
    """Fingerprint of the test images."""
    fit: str
    """Fingerprint of the training images, "" for a third-party model."""
    experiment: str
    """What the training is, whatever its seed."""
    method: str
    """What the metric is, whatever the model."""
    model_key: str
    inspection_key: str
    key: str
    settings: str = ""
    """Settings of the training's method that are not its card's defaults, as JSON."""
    of_suite: bool = False
    """Whether the suite's file asks for it, and not only the options of a command."""

    @property
    def who(self) -> str:
        """The model in words."""
        return f"{self.trainer}, seed {self.seed}" if self.fit else self.model

    @property
    def training(self) -> Identity:
        """What the model is, whatever its key."""
        return (self.dataset, self.model, self.trainer, self.seed)

    @property
    def identity(self) -> Identity:
        """What the cell is, whatever its key."""
        return (*self.training, self.metric, self.params, self.threat)


def entry(cell: Cell, **facts: Any) -> Entry:
    """The ledger's line for a cell; `facts` are the fingerprints and keys."""
    training, metric = cell.training, cell.metric.card
    return Entry(
        dataset=training.data.name,
        model=training.model,
        trainer=training.label,
        train_threat=str(training.threat or ""),
        reconstruction=training.trainer is not None and training.trainer.card.reconstruction,
        seed=training.seed,
        threat=str(cell.threat or ""),
        metric=metric.name,
        family=metric.family,
        label=metric.label(dict(cell.metric.settings)),
        params=str(cell.metric),
        settings=str(training.trainer or ""),
        directions={m.name: m.direction if m.direction != "none" else "" for m in metric.measures},
        ranges={m.name: m.range for m in metric.measures},
        **facts,
    )


def described(cell: Cell) -> Entry:
    """The ledger's line for a cell whose data, models and keys nobody has looked at."""
    unknown = ("images", "fit", "experiment", "method", "model_key", "inspection_key", "key")
    return entry(cell, **dict.fromkeys(unknown, ""))


@dataclass(frozen=True)
class Ledger:
    """The suite a folder belongs to, its cells in the order of the tables, and why some have no result."""

    suite: str
    entries: tuple[Entry, ...]
    failures: dict[str, str]
    """Key of a cell or inspection -> reason."""

    def state(self, store: Store, entry: Entry) -> Literal["done", "failed", "waiting"]:
        """How far a cell is."""
        if store.has("cells", entry.key):
            return "done"
        return "failed" if entry.key in self.failures else "waiting"


def read(folder: Path) -> Ledger | None:
    """The ledger of a folder, none if it has none; StoreError if it cannot be read."""
    path = folder / "plan.json"
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Entry(**line) for line in content["entries"])
        return Ledger(content["suite"], entries, content["failures"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a run's plan as this version writes it ({error}); give another --out"
        ) from None


def write(folder: Path, ledger: Ledger) -> None:
    """Put the ledger into its folder, unless it says the same already."""
    if read(folder) != ledger:
        content = {
            "suite": ledger.suite,
            "entries": [asdict(line) for line in ledger.entries],
            "failures": ledger.failures,
        }
        write_json(folder / "plan.json", content)


def amended(
    old: Ledger | None, suite: str, new: tuple[Entry, ...], folder: Path,
    asked: frozenset[Identity] = frozenset(),
) -> Ledger:  # fmt: skip
    """The ledger with the cells of a command added; StoreError if the folder is another suite's.

    Seeds, models and metrics of commands add up; what is another experiment does not. So cells leave the ledger whose
    data set has other images now, whose training has another recipe or code, or whose metric has; and those that the
    suite's file asked for and no longer does (`asked`: what it asks for now of its data set). Their results stay in the
    store. A command that asks for all cells puts them into its order, another one leaves theirs and adds its own.
    """
    if old is not None and old.suite != suite:
        raise StoreError(
            f"{folder} holds results of suite {old.suite!r}, not of {suite!r}; give another folder with --out"
        )
    now = {scope: fact for line in new for scope, fact in _scopes(line)}
    datasets = {identity[0] for identity in asked}
    kept = [
        line
        for line in (old.entries if old else ())
        if all(now.get(scope, fact) == fact for scope, fact in _scopes(line))
        and not (line.of_suite and line.dataset in datasets and line.identity not in asked)
    ]
    lines = {line.identity: line for line in (*kept, *new)}
    wanted = dict.fromkeys(line.identity for line in new)
    order = wanted if wanted.keys() == lines.keys() else lines
    return Ledger(suite, tuple(lines[name] for name in order), old.failures if old else {})


def changes(old: Ledger | None, new: tuple[Entry, ...], store: Store) -> tuple[str, ...]:
    """What is no longer as it was when cells of this command were computed, and how many are computed anew for it."""
    before = {line.identity: line for line in old.entries} if old else {}
    causes = Counter(
        _cause(before[line.identity], line)
        for line in new
        if line.identity in before
        and before[line.identity].key != line.key
        and not store.has("cells", line.key)
    )
    return tuple(
        f"changed since an earlier command: {cause}; cells that are computed anew: {count}"
        for cause, count in causes.items()
    )


def _cause(old: Entry, new: Entry) -> str:
    """The first thing that makes a cell another one."""
    mine = "the file or the code" if not new.fit else "the recipe, its code or the libraries"
    causes = (
        (old.images != new.images, f"the test images of {new.dataset}"),
        (old.fit != new.fit, f"the training images of {new.dataset}"),
        (old.experiment != new.experiment, f"{mine} of {new.trainer if new.fit else new.model}"),
        (old.method != new.method, f"the code or the libraries of {new.label}"),
    )
    return next((what for differs, what in causes if differs), f"what {new.label} depends on")


def _scopes(line: Entry) -> list[tuple[tuple[str, ...], str]]:
    """(what a fact must be the same for, the fact)."""
    scopes = [
        (("images", line.dataset), line.images),
        (("training", line.dataset, line.model, line.trainer), line.experiment),
        (("metric", line.dataset, line.metric, line.params, line.threat), line.method),
    ]
    return [*scopes, (("fit", line.dataset), line.fit)] if line.fit else scopes


def digest(ledger: Ledger, store: Store) -> str:
    """What the records of a folder are made from: its cells, and how far each is."""
    states = [(asdict(line), ledger.state(store, line)) for line in ledger.entries]
    inspected = [store.has("inspections", line.inspection_key) for line in ledger.entries]
    return key(states, inspected, ledger.failures)
