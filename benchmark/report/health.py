"""Can the numbers be believed? Preflight's findings and the verdict on masked gradients, one line a model."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from benchmark.gradient_masking import LEVELS, Level, Share, exceeded, verdict, worst
from benchmark.report.grid import Grid
from benchmark.report.names import dataset_title, norm_sign
from benchmark.report.read import Run
from benchmark.report.series import marked_names
from benchmark.report.tables.table import DAGGER

_LEVEL_OF: dict[float, Level] = {1.0: "PASS", 0.5: "WARN", 0.0: "FAIL"}
_STRONG = {"WARN": "yellow", "FAIL": "bold red"}
_MODEL = ["model", "trainer"]
_OVERRATED = 0.1
"""How far AutoAttack may stay below PGD at the same threat; between honest models it is a few points."""


class Line(NamedTuple):
    """One finding on one model of one seed; a passed one has no code.

    `check` is "masking" (the metric), "attacks" (AutoAttack beside PGD) or a check of preflight.
    """

    model: str
    trainer: str
    seed: int
    check: str
    threat: str
    level: Level
    code: str
    why: str


@dataclass(frozen=True)
class Health:
    """One row of the table: the worst level over seeds and threats ("" where nothing was looked at), and why."""

    name: str
    preflight: str
    masking: str
    reasons: tuple[str, ...]


def lines(records: pd.DataFrame) -> list[Line]:
    """Every finding in the records of a data set, passed ones included."""
    found = [*_preflight(records[records["metric"] == "preflight"])]
    masked = records[(records["metric"] == "masking") & records["at"].isna()]
    for _, cell in masked.groupby([*_MODEL, "seed", "threat", "params"], sort=False):
        found += _masking(cell)
    return [*found, *_overrated(records), *_by_square(records)]


def health(records: pd.DataFrame) -> list[Health]:
    """The rows of the table, in the order of the main table's; none where nothing was looked at."""
    found = lines(records)
    return [
        _row(name, [line for line in found if (line.model, line.trainer) == key])
        for key, name in marked_names(records).items()
        if found
    ]


def grids(run: Run) -> list[Grid]:
    """A table for each data set on which something was looked at."""
    return [
        Grid(
            "health", name, f"Health on {dataset_title(name)}", ("", "Preflight", "Masking", "Reasons"),
            tuple(
                (row.name, row.preflight or "–", row.masking or "–", "\n".join(row.reasons))
                for row in rows
            ),
            CAPTION + f" †: {DAGGER}" * any(row.name.endswith("†") for row in rows), strong=_STRONG,
        )
        for name, rows in _by_dataset(run)
    ]  # fmt: skip


def tidy_csv(run: Run) -> dict[str, str]:
    """Data set -> its findings as CSV, one line a finding."""
    files = {}
    for name, part in run.by_dataset().items():
        if found := lines(part.records):
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([Line._fields, *found])
            files[name] = out.getvalue()
    return files


CAPTION = (
    "The worst over seeds and threats. Preflight: is the model what the measures take it for? Masking: do attacks that "
    "know less do better (metric masking), does AutoAttack find 10 points more than PGD, and its Square what its "
    "gradients miss? – : not looked at. PASS: no sign, which proves nothing; WARN: look; FAIL: do not believe the "
    "robust accuracies."
)


def _by_dataset(run: Run) -> Iterator[tuple[str, list[Health]]]:
    for name, part in run.by_dataset().items():
        if rows := health(part.records):
            yield name, rows


def _preflight(records: pd.DataFrame) -> Iterator[Line]:
    for row in records.to_dict("records"):
        level = _LEVEL_OF.get(row["value"], "FAIL")
        code, colon, why = row["note"].partition(": ")
        yield Line(
            row["model"], row["trainer"], row["seed"], row["measure"], "", level,
            code if colon else "", why if colon else code,
        )  # fmt: skip


def _masking(cell: pd.DataFrame) -> list[Line]:
    """The verdict on the measures of one cell; nothing where it has no values."""
    rows = cell.to_dict("records")
    measures = {row["measure"]: Share(row["value"], int(row["n"])) for row in rows if row["n"] > 0}
    if not measures:
        return []
    of = (rows[0]["model"], rows[0]["trainer"], rows[0]["seed"], "masking", rows[0]["threat"])
    found = verdict(measures)
    return [
        Line(*of, each.level, each.code, f"{each.evidence}; {each.remedy}")
        for each in found.reasons
    ] or [Line(*of, found.level, "", "")]


def _overrated(records: pd.DataFrame) -> Iterator[Line]:
    """Where AutoAttack finds far more than the strongest PGD of the same threat, in the mean over seeds."""
    heads = records[records["headline"].astype(bool) & records["at"].isna()]
    keys = [*_MODEL, "threat"]
    pgd = heads[heads["metric"] == "pgd"].sort_values("value").drop_duplicates([*keys, "seed"])
    strong = heads[heads["metric"] == "auto_attack"]
    both = strong.merge(pgd, on=[*keys, "seed"], suffixes=("", "_pgd"))
    for (model, trainer, threat), seeds in both.groupby(keys, sort=False):
        said, found = seeds["value_pgd"].mean(), seeds["value"].mean()
        if said - found >= _OVERRATED:
            label = seeds["label_pgd"].iloc[0]
            why = f"{label} says {said:.1%}, AutoAttack {found:.1%}: quote AutoAttack"
            for seed in seeds["seed"]:
                of = (str(model), str(trainer), int(seed), "attacks", str(threat))
                yield Line(*of, "WARN", "pgd-overrates", why)


def _by_square(records: pd.DataFrame) -> Iterator[Line]:
    """Where Square breaks what the gradients of the same AutoAttack left standing."""
    for row in records[records["measure"] == "broken_by_square"].to_dict("records"):
        share = Share(row["value"], int(row["n"]))
        for each in exceeded({"broken_by_square": share}) if share.n else ():
            yield Line(
                row["model"], row["trainer"], row["seed"], "attacks", row["threat"],
                each.level, each.code, f"{each.evidence}; {each.remedy}",
            )  # fmt: skip


def _row(name: str, found: list[Line]) -> Health:
    masking = [line.level for line in found if line.check in ("masking", "attacks")]
    others = [line.level for line in found if line.check not in ("masking", "attacks")]
    return Health(
        name,
        worst(others) if others else "",
        worst(masking) if masking else "",
        tuple(_reasons(found)),
    )


def _reasons(found: list[Line]) -> Iterator[str]:
    """What did not pass, the worst first, with the seeds that it is true of if not of all."""
    seeds = dict.fromkeys(line.seed for line in found)
    texts: dict[str, dict[int, None]] = {}
    for line in sorted(found, key=lambda line: -LEVELS.index(line.level)):
        if line.level != "PASS":
            under = f" under {norm_sign(line.threat)}" if line.threat else ""
            text = f"{line.level} {line.code or line.check}{under}: {line.why}"
            texts.setdefault(text, {})[line.seed] = None
    for text, own in texts.items():
        yield text if len(own) == len(seeds) else f"{text} (seed {', '.join(map(str, own))})"
