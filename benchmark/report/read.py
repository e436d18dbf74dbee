"""What a report is made from: the records, the manifest and the gallery of a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmark.errors import BenchError

_TEXTS = (
    *("dataset", "model", "trainer", "threat", "metric", "family", "label", "params"),
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
        if not self.path.is_file():
            raise ReportError(f"{self.path}: named in the gallery's index.json, but not there")
        return load_file(self.path)


@dataclass(frozen=True)
class Run:
    """One run, as the report sees it."""

    records: pd.DataFrame
    manifest: dict[str, Any] = field(default_factory=dict)
    gallery: tuple[Picture, ...] = ()
    trainings: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row a trained model, as benchmark/trainings.py has it; empty where the run trained none."""

    def by_dataset(self) -> dict[str, Run]:
        """The run cut into one run a data set, in the order of the records."""
        names = list(dict.fromkeys([*self.records["dataset"], *(p.dataset for p in self.gallery)]))
        return {
            name: replace(
                self,
                records=self.records[self.records["dataset"] == name],
                gallery=tuple(p for p in self.gallery if p.dataset == name),
            )
            for name in names
        }


def read(folder: Path) -> Run:
    """The run in a folder; only records.parquet is required."""
    path = folder / "records.parquet"
    if not path.is_file():
        raise ReportError(f"{folder}: no records.parquet here; give the folder that a run wrote")
    try:
        records = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable as parquet ({error})") from error
    return Run(tidy(records, path), _manifest(folder), _gallery(folder), _trainings(folder))


def tidy(records: pd.DataFrame, place: Path | str = "records") -> pd.DataFrame:
    """The records with their columns checked and their numbers as floats."""
    absent = [name for name in COLUMNS if name not in records.columns]
    if absent:
        raise ReportError(
            f"{place}: made by another version, without the column{'s' * (len(absent) > 1)} "
            f"{', '.join(absent)}; give the run's command again"
        )
    return (
        records[list(COLUMNS)]
        .assign(**{name: pd.to_numeric(records[name], errors="coerce") for name in _NUMBERS})
        .assign(**{name: records[name].fillna("").astype(str) for name in _TEXTS})
        .replace({"value": {np.inf: np.nan, -np.inf: np.nan}})
        .reset_index(drop=True)
    )


def _trainings(folder: Path) -> pd.DataFrame:
    path = folder / "trainings.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    content = _json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _gallery(folder: Path) -> tuple[Picture, ...]:
    index = folder / "gallery" / "index.json"
    entries = _json(index) if index.is_file() else []
    try:
        return tuple(
            Picture(
                e["dataset"], e["model"], e["trainer"], int(e["seed"]), index.parent / e["file"]
            )
            for e in entries
        )
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"{index}: an entry lacks {error}; each has dataset, model, trainer, seed, file"
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({error})") from error
