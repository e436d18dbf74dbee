"""Puts the page together: what the other files of this folder prepare, through the template, under a strict policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmark.report.names import norm_sign
from benchmark.report.origin import data_used
from benchmark.report.page.board import Board, board
from benchmark.report.page.dossier import Dossier, dossiers
from benchmark.report.page.provenance import cited, command, provenance
from benchmark.report.page.verdict_matrix import verdict_matrix
from benchmark.report.read import Run
from benchmark.report.tables.cells import Beside, Column
from benchmark.report.tables.table import Table

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Drawing:
    """A plot as it stands on the page, or why there is none."""

    dataset: str
    stem: str
    """The name of its files, without the ending."""
    title: str
    png: bytes
    failure: str = ""

    @property
    def source(self) -> str:
        """The picture within the page itself."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels (from the header), so that the page does not move while it loads."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


@dataclass(frozen=True)
class Panel:
    """What the page shows of one data set."""

    board: Board
    data: str
    dossiers: tuple[Dossier, ...]
    matrix: Mapping[str, object]
    """Which attack broke which image, as the script reads it; empty where no attack ran."""
    drawings: tuple[Drawing, ...]


def page(run: Run, tables: Sequence[Table], drawings: Sequence[Drawing], bibtex: str = "") -> str:
    """The report of a run as HTML; the tables are those of the other formats, to the last digit."""
    parts = run.by_dataset()
    panels = [
        Panel(
            made := board(table, parts[table.dataset].records, number),
            data_used(run.manifest, table.dataset),
            tuple(dossiers(parts[table.dataset], made)),
            verdict_matrix(parts[table.dataset], made),
            tuple(drawing for drawing in drawings if drawing.dataset == table.dataset),
        )
        for number, table in enumerate(tables)
    ]
    style, script = (Markup((_HERE / name).read_text("utf-8")) for name in ("page.css", "page.js"))
    return _environment().get_template("page.html").render(
        suite=str(run.manifest.get("suite") or ""),
        command=command(run.manifest),
        panels=panels,
        provenance=provenance(run.manifest),
        cited=cited(run.records),
        bibtex=bibtex,
        style=style,
        script=script,
        policy=_policy(style, script),
    )  # fmt: skip


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"norms": norm_sign, "number": _number, "beside": _beside}
    # as the page's language sorts: no key order, so that columns stay in theirs
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "separators": (",", ":")}
    return made


def _beside(controls: Sequence[Beside], column: Column) -> str:
    """What the controls of a cell scored, in words."""
    groups = {"better than ": True, "not significantly better than ": False, "": None}
    said = [
        f"{words}{', '.join(own)}"
        for words, beaten in groups.items()
        if (
            own := [f"{c.control} {column.written(c.mean)}" for c in controls if c.beaten is beaten]
        )
    ]
    return f"Controls: {'; '.join(said)}" if said else ""


def _number(value: float) -> str:
    """A number of the records for the script: short, and the same double to seven digits."""
    return f"{value:.7g}"


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that lets this style and script in, pictures from the page itself, nothing else."""
    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
