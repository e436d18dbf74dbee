"""The options that commands share, with their help."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmark.errors import BenchError


class Listing(str, Enum):
    """What `bench list` lists."""

    trainers = "trainers"
    metrics = "metrics"
    attributions = "attributions"
    attacks = "attacks"
    datasets = "datasets"
    models = "models"
    suites = "suites"


class Formats(str, Enum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class Spreads(str, Enum):
    """What stands behind the means of a table."""

    interval = "interval"
    ends = "ends"
    seeds = "seeds"


Spread = Annotated[
    Spreads,
    typer.Option(
        "--spread",
        help="What stands behind a mean: interval, ± the distance to the farther end of the 95% interval; ends, both "
        "of its ends in brackets; seeds, ± the standard deviation over seeds.",
    ),
]
TextWidth = Annotated[
    float,
    typer.Option(
        "--textwidth", metavar="POINTS", min=200,
        help="Of the text that tables for LaTeX go into: 397 in NeurIPS and ICLR, 345 in article; the default is for "
        "two columns. Wider tables are cut into panels.",
    ),
]  # fmt: skip
Format = Annotated[Formats, typer.Option("--format", "-f", help="How the table is printed.")]
Suite = Annotated[
    str, typer.Option("--suite", "-s", help="A suite's name, or the path of a .toml file.")
]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", "-d", help="Another data set than the suite's; also folder:PATH."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A model of others, repeatable: file:PATH@ARCHITECTURE[?mean=..&std=..], file:PATH@PATH.py:FUNCTION "
        "(a network of your own), robustbench:DATASET/THREAT/NAME, torchvision:NAME, timm:NAME or "
        "python:PATH.py:FUNCTION.",
    ),
]
Trainers = Annotated[
    list[str] | None,
    typer.Option(
        "--trainer", "-t",
        help="A name: only this trainer. A .py file: your own, beside the others. Repeatable. none: none of the "
        "suite's, only models of others (--model).",
    ),
]  # fmt: skip
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="A name: only this metric. A .py file: your own, beside the others. Repeatable.",
    ),
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds instead of the suite's: 0,1,2.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Use the first N test images only.")
]
Split = Annotated[
    Literal["test", "validation"] | None,
    typer.Option(
        "--split",
        help="validation: measure on one half of the images held out of the training data, to choose settings (by the "
        "other half the epoch is chosen); else test.",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", help="Another size of the suite, where its file has one (scale.NAME)."),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="BENCH_DATA", help="Root of downloaded data sets, in torchvision's layout."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, help="Worker processes: one per core by default, one on a GPU."
    ),
]
Executor = Annotated[
    Literal["processes", "ray"],
    typer.Option("--executor", help="processes of this machine, or ray: a cluster of machines."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Of a Ray cluster: HOST:PORT, or auto for the one that this machine is in. Without it: this machine.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run's folder; results/SUITE by default.")
]
Refresh = Annotated[
    list[str] | None,
    typer.Option(
        "--refresh", metavar="METRIC",
        help="Compute a metric's cells again (by name or label; all: every metric), repeatable. "
        "Each old result stays until the new one is there; models are kept, and with --store what is retrained, too.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show only what is wrong, and the last line.")
]
Results = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL",
        help="Where results are kept, for several runs and machines to share: a folder, s3://BUCKET/PATH, gs://... "
        "The run's folder by default.",
    ),
]  # fmt: skip
Folder = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the trainer; may be repeated."),
]
RecipeChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", metavar="NAME=VALUE",
        help="A change of the recipe (epochs=50, ema=0.999), or named=kim2019; may be repeated.",
    ),
]  # fmt: skip


def pairs(texts: list[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE as typed: numbers, true/false and [lists] are what they look like, all else is text."""
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BenchError(
                f"{option} {text!r} is not of the form NAME=VALUE, as in {option} epochs=5"
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
