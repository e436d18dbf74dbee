"""`bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from benchmark.commands._options import Folder, Json, TextWidth
from benchmark.commands._shared import err, out
from benchmark.errors import BenchError


def compare(
    first: Folder,
    second: Annotated[Path | None, typer.Argument(help="Another run, whose models are B.", show_default=False)] = None,
    models: Annotated[
        tuple[str, str] | None, typer.Option("--models", "-m", help="The names of A and B, as the tables have them.")
    ] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", "-b", help="A; B is every other model.")] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            help="Models in a predicted order, the worst first: 'standard < pgd_at < trades'. Neighbours are compared. "
            "Repeatable; p values are corrected for all.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure", help="Only these, in the words of a suite's tables: auto_attack, roar:gradient. Repeatable."
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate", metavar="MEASURE[:MARGIN]",
            help="Exit with 1 if B is worse than A by more than the margin (0.01: a point) with all of the 95% "
            "interval. Repeatable.",
        ),
    ] = None,
    as_json: Json = False,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="A .md, .tex, .csv or .json file.")] = None,
    textwidth: TextWidth = 490.0,
) -> None:  # fmt: skip
    """Compare models on the same images: differences with intervals, p values, who is better.

    Two runs, or two models of one (--models), or all against one (--baseline), or neighbours in an order (--order).
    """
    from benchmark import compare as comparing
    from benchmark import gate as gating
    from benchmark.report.compared import ENDINGS, comparison, text
    from benchmark.report.formats.grids import grid_terminal
    from benchmark.report.tables.chosen import EVERYTHING
    from benchmark.sides import chain
    from benchmark.storage import records
    from benchmark.storage.atomic import write_atomically

    if file and file.suffix not in ENDINGS:
        raise BenchError(
            f"--out {file}: the ending says what to write; valid: {', '.join(ENDINGS)}"
        )
    gates = [gating.gate(each) for each in gate or ()]
    for folder in filter(None, (first, second)):
        records.refresh(folder)
    chains = [chain(each) for each in order or ()]
    lines = comparing.compare(
        first, second, models, baseline, measure or EVERYTHING, chains, tell=_say
    )
    failed = gating.failures(gates, lines)
    if as_json:
        print(text(lines, ".json"), end="")
    else:
        for part in (part for grid in comparison(lines) for part in grid_terminal(grid, out.width)):
            out.print(part)
    if file:
        write_atomically(
            file,
            lambda path: path.write_text(text(lines, file.suffix, textwidth), encoding="utf-8"),
        )
    for one, line in failed:
        worse, _, least = (-value for value in line.gain)
        err.print(
            f"[red]gate {escape(one.text)}[/] {escape(line.b)} is worse than {escape(line.a)} by {worse:.4g}, "
            f"at least {least:.4g} ({escape(line.label)} on {escape(line.dataset)})", highlight=False,
        )  # fmt: skip
    raise typer.Exit(1 if failed else 0)


def _say(line: str) -> None:
    err.print(line, highlight=False, markup=False)
