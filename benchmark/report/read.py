"""What a report is made from: the files of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmark.errors import BenchError
from benchmark.report.names import given_names, threats_of
from benchmark.report.tables.cells import Spread

_TEXTS = (
    *(
        "dataset",
        "model",
        "trainer",
        "train_threat",
        "threat",
        "metric",
        "family",
        "label",
        "params",
    ),
    *("measure", "direction", "range", "note"),
)
_NUMBERS = ("at", "value", "low", "high", "stderr", "n")
COLUMNS = (*_TEXTS, *_NUMBERS, "seed", "headline", "reconstruction")
"""The columns of the records that a report reads."""


class ReportError(BenchError):
    """A run folder cannot be reported; the message says which file, what is wrong and what would be valid."""


@dataclass(frozen=True)
class Picture:
    """The gallery file of one model: the images of its data set with the model's attribution maps."""

    dataset: str
    model: str
    trainer: str
    seed: int
    path: Path

    def arrays(self) -> dict[str, NDArray[Any]]:
        """images (m, C, H, W), labels (m,), predicted (m,), and a signed (m, H, W) for each "map/<attribution>"."""
        return load_file(self.path)


@dataclass(frozen=True)
class Run:
    """One run, as the report sees it."""

    records: pd.DataFrame
    manifest: dict[str, Any] = field(default_factory=dict)
    gallery: tuple[Picture, ...] = ()
    trainings: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row a trained model, as benchmark/storage/trainings.py has it; empty where the run trained none."""
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row an epoch of a trained model."""
    spread: Spread = "interval"
    """What stands behind the means in its tables."""
    folder: Path | None = None
    """Where the larger files are, which are read when they are needed."""

    @property
    def definition(self) -> dict[str, Any]:
        """The suite, as its latest invocation had it; empty where that is not known."""
        invocations = self.manifest.get("invocations")
        last = invocations[-1] if isinstance(invocations, list) and invocations else {}
        return last.get("definition") or {}

    def by_dataset(self) -> dict[str, Run]:
        """The run cut into one run a data set, in the order of the records; the same ones at every call."""
        return self._parts

    @cached_property
    def _parts(self) -> dict[str, Run]:
        names = list(dict.fromkeys([*self.records["dataset"], *(p.dataset for p in self.gallery)]))
        return {
            name: replace(
                self,
                records=self.records[self.records["dataset"] == name],
                gallery=tuple(p for p in self.gallery if p.dataset == name),
                trainings=_of(self.trainings, name),
                epochs=_of(self.epochs, name),
            )
            for name in names
        }

    def samples(self, metric: str, measure: str) -> pd.DataFrame:
        """The scores of single images of a measure, of this run's data sets; empty where they are not kept."""
        asked = (pc.field("metric") == metric) & (pc.field("measure") == measure)
        return self._parquet("samples.parquet", asked)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores of single images (and refits) of every measure, curves left out; empty where they are not kept."""
        no_curve = pc.field("at").is_null(nan_is_null=True)
        found = self._parquet("samples.parquet", no_curve, leave=("at",))
        # without refits a comparison would not know their spread
        return found if "refit" in found else pd.DataFrame()

    def verdicts(self) -> pd.DataFrame:
        """Which attack broke which image, as benchmark/storage/verdicts.py has it; empty where that is not kept."""
        return self._parquet("verdicts.parquet")

    def thumbnails(self, dataset: str) -> dict[str, NDArray[Any]]:
        """ids (n,) of a data set's test images and thumbnails (m, C, h, w) of the first; empty where not kept."""
        index = self.folder / "gallery" / "thumbnails.json" if self.folder else None
        if index is None or not index.is_file():
            return {}
        file = index.parent / str(_json(index).get(dataset, ""))
        found = load_file(file) if file.is_file() else {}
        return found if "thumbnails" in found else {}

    def _parquet(
        self, name: str, rows: pc.Expression | None = None, leave: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The rows of a file that are of this run's data sets, without the columns to `leave`; no others are held."""
        path = self.folder / name if self.folder else None
        if path is None or not path.is_file():
            return pd.DataFrame()
        try:
            file = pq.read_metadata(path)
            columns = file.schema.names
            if not file.num_rows or "dataset" not in columns:
                return pd.DataFrame(
                    columns=columns
                )  # of a run without results: no types to filter by
            own = pc.field("dataset").isin(list(self.records["dataset"].unique()))
            wanted = own if rows is None else own & rows
            return pd.read_parquet(
                path, columns=[name for name in columns if name not in leave], filters=wanted
            )
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}: not readable as parquet ({error})") from error


def read(folder: Path, spread: Spread = "interval") -> Run:
    """The run in a folder; only records.parquet is required. `spread`: what stands behind the means in its tables."""
    path = folder / "records.parquet"
    if not path.is_file():
        raise ReportError(f"{folder}: no records.parquet here; give the folder that a run wrote")
    try:
        records = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable as parquet ({error})") from error
    run = Run(
        tidy(records, path), _manifest(folder), _gallery(folder),
        _csv(folder / "trainings.csv"), _csv(folder / "epochs.csv"), spread, folder,
    )  # fmt: skip
    called = _called(run.records, run.definition.get("names") or {})
    return replace(
        run,
        records=_with_names(run.records, called),
        trainings=_with_names(run.trainings, called),
    )


def _called(records: pd.DataFrame, names: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """(data set, model, trainer) -> what the suite calls this row of the tables, if it does."""
    found: dict[tuple[str, ...], str] = {}
    for dataset, part in records.groupby("dataset", sort=False) if names else ():
        given = given_names(threats_of(part), names)
        found |= {(str(dataset), *row): name for row, name in given.items()}
    return found


def _with_names(rows: pd.DataFrame, called: Mapping[tuple[str, ...], str]) -> pd.DataFrame:
    """The rows with these names as a column, where there are any."""
    if rows.empty or not called:
        return rows
    keys = zip(rows["dataset"], rows["model"], rows["trainer"], strict=True)
    return rows.assign(called=[called.get(key, "") for key in keys])


def tidy(records: pd.DataFrame, place: Path | str = "records") -> pd.DataFrame:
    """The records with their columns checked and their numbers as floats; `key`, which no report reads, stays."""
    absent = [name for name in COLUMNS if name not in records.columns]
    if absent:
        raise ReportError(
            f"{place}: made by another version, without the column{'s' * (len(absent) > 1)} "
            f"{', '.join(absent)}; give the run's command again"
        )
    return (
        records[[*COLUMNS, *({"key"} & set(records.columns))]]
        .assign(**{name: pd.to_numeric(records[name], errors="coerce") for name in _NUMBERS})
        .assign(**{name: records[name].fillna("").astype(str) for name in _TEXTS})
        .replace({"value": {np.inf: np.nan, -np.inf: np.nan}})
        .reset_index(drop=True)
    )


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table["dataset"] == dataset] if len(table) else table


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    content = _json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _gallery(folder: Path) -> tuple[Picture, ...]:
    """The pictures that are there: a copy of a run may be without its store."""
    index = folder / "gallery" / "index.json"
    entries = _json(index) if index.is_file() else []
    try:
        named = [
            Picture(
                e["dataset"], e["model"], e["trainer"], int(e["seed"]), index.parent / e["file"]
            )
            for e in entries
        ]
        return tuple(picture for picture in named if picture.path.is_file())
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"{index}: an entry lacks {error}; each has dataset, model, trainer, seed, file"
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({error})") from error
