"""A run in a notebook: its tables as pandas frames, and the tables of the report. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmark.report import asked
from benchmark.report.names import norm_sign, row_names
from benchmark.report.read import Run, read
from benchmark.report.tables.chosen import EVERYTHING, chosen
from benchmark.report.tables.sets import tables
from benchmark.storage import records


@dataclass(frozen=True, repr=False)
class Results:
    """A run's folder; the columns of its frames stand in docs/data.md."""

    folder: Path
    run: Run

    def __repr__(self) -> str:
        suite = self.run.manifest.get("suite", "?")
        models, (measures, _) = row_names(self.records), chosen(self.records, EVERYTHING)
        return (
            f"Results(suite {suite} on {', '.join(self.run.by_dataset()) or 'no data set'}: "
            f"{len(models)} models, {len(measures)} measures, in {self.folder})"
        )

    @property
    def records(self) -> pd.DataFrame:
        """One row per measure of one model and seed, with its interval."""
        return self.run.records

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per image and measure (and refit)."""
        path = self.folder / "samples.parquet"
        return pd.read_parquet(path) if path.is_file() else pd.DataFrame()

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per image, model and threat: which attack broke it."""
        return self.run.verdicts()

    @property
    def trainings(self) -> pd.DataFrame:
        """One row per trained model: what it cost and how it went."""
        return self.run.trainings

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch of a trained model."""
        return self.run.epochs

    def table(self, name: str = "main") -> pd.DataFrame:
        """A table of the report, its means as shown there (accuracies in percent): models x (family, measure, threat).

        With several data sets the index has them, too. ReportError for a name that is no table.
        """
        frames = {}
        for made in tables(self.run, name):
            heads = [(c.family, c.label, norm_sign(c.threat)) for c in made.columns]
            frames[made.dataset] = pd.DataFrame(
                [[cell.mean * c.scale for cell, c in zip(row.cells, made.columns, strict=True)] for row in made.rows],
                index=pd.Index([row.name for row in made.rows], name="model"),
                columns=pd.MultiIndex.from_tuples(heads, names=["family", "measure", "threat"]),
            )  # fmt: skip
        return (
            pd.concat(frames, names=["dataset"])
            if len(frames) > 1
            else next(iter(frames.values()), pd.DataFrame())
        )

    def text(self, name: str = "main", as_format: str = "markdown") -> str:
        """The same table as "markdown", "latex", "csv" or "json", with intervals, bold and notes; also "health", ..."""
        return asked.text(self.run, name, as_format)


def load(folder: str | Path) -> Results:
    """The results in a run's folder, written again if it holds newer cells; ReportError if it holds none."""
    place = Path(folder)
    records.refresh(place)
    return Results(place, read(place))
