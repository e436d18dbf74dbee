"""Can the numbers be believed? Preflight's findings and the verdict on masked gradients, one line a model."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from benchmark.gradient_masking import LEVELS, Level, Share, verdict, worst
from benchmark.report.formats.markdown import escape
from benchmark.report.names import norm_sign, row_names
from benchmark.report.read import Run

_LEVEL_OF: dict[float, Level] = {1.0: "PASS", 0.5: "WARN", 0.0: "FAIL"}
_STYLE = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red"}
_MODEL = ["model", "trainer"]


class Line(NamedTuple):
    """One finding on one model of one seed; `check` is "masking" or a check of preflight, a passed one has no code."""

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
    return found


def health(records: pd.DataFrame) -> list[Health]:
    """The rows of the table, in the order of the main table's; none where nothing was looked at."""
    found = lines(records)
    return [
        _row(name, [line for line in found if (line.model, line.trainer) == key])
        for key, name in row_names(records).items()
        if found
    ]


def markdown(run: Run) -> str:
    """A pipe table for each data set."""
    return "\n\n".join(
        "\n".join(
            [
                f"## Health on {escape(name)}\n",
                "| | Preflight | Masking | Reasons |",
                "| :-- | :-- | :-- | :-- |",
                *(_pipes(row) for row in rows),
                f"\n{CAPTION}",
            ]
        )
        for name, rows in _by_dataset(run)
    )


def terminal(run: Run) -> list[RenderableType]:
    """The same for rich's console: Text objects throughout, a name is never read as markup."""
    parts: list[RenderableType] = []
    for name, rows in _by_dataset(run):
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for heading in ("", "Preflight", "Masking", "Reasons"):
            grid.add_column(heading)
        for row in rows:
            levels = [
                Text(level or "–", _STYLE.get(level, "")) for level in (row.preflight, row.masking)
            ]
            grid.add_row(Text(row.name), *levels, Text("\n".join(row.reasons)))
        parts += [Text(f"Health on {name}", style="bold"), grid, Text(CAPTION, style="dim")]
    return parts


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
    "know less do better (metric masking)? – : not looked at. PASS: no sign, which proves nothing; WARN: look; "
    "FAIL: do not believe the robust accuracies."
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


def _row(name: str, found: list[Line]) -> Health:
    masking = [line.level for line in found if line.check == "masking"]
    others = [line.level for line in found if line.check != "masking"]
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


def _pipes(row: Health) -> str:
    levels = [
        f"**{level}**" if level in ("WARN", "FAIL") else level or "–"
        for level in (row.preflight, row.masking)
    ]
    reasons = "<br>".join(escape(reason) for reason in row.reasons)
    return f"| {escape(row.name)} | {' | '.join(levels)} | {reasons} |"
