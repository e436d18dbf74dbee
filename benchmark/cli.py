"""`bench`: one function a command, each parses, makes one call and prints. No torch before it is needed.

Exit status: 0 all done; 1 some cells failed; 2 usage or suite error; 3 a preflight check failed under --strict;
4 interrupted, continue with the same command; 5 a stored file is damaged. Of `verify`: 1 something differs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.errors import BenchError, Interrupted
from benchmark.options import (
    Data,
    Dataset,
    Device,
    Folder,
    Json,
    Limit,
    Listing,
    Metrics,
    Models,
    Out,
    RecipeChanges,
    Seeds,
    Settings,
    Split,
    Suite,
    Trainers,
    Workers,
    pairs,
)

app = typer.Typer(
    name="bench",
    help="Robustness and interpretability of image classifiers, measured on the same checkpoints in one run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Start with: bench run --suite smoke",
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def main() -> None:
    """Entry point of the `bench` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BenchError as error:
        _leave(str(error), error.status)
    except OSError as error:
        _leave(f"{error.strerror or error}: {error.filename or 'no file named'}", 1)


def _leave(message: str, status: int) -> NoReturn:
    err.print(f"[bold red]bench:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@app.command("list")
def list_(what: Annotated[Listing, typer.Argument()], as_json: Json = False) -> None:
    """List what can be named in a suite."""
    from benchmark.catalogue import catalogue

    rows = catalogue(what.value)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    out.print(table)


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Show the card of a trainer, metric, attribution, model, data set or suite."""
    from benchmark.catalogue import describe

    text, facts = describe(name)
    print(json.dumps(facts, indent=1) if as_json else text)


@app.command()
def plan(
    suite: Suite,
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None,
    workers: Workers = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show the cells of a suite, their number and an estimate of the time. Trains nothing."""
    from benchmark import costs

    planned = _planned(suite, dataset, model, trainer, metric, seeds, limit, split)
    overview = costs.overview(planned, workers or _cores())
    if as_json:
        print(json.dumps(overview, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("trainings")
    table.add_column("metrics")
    names = [f"{t.label}, seed {t.seed}" if t.trainer else t.model for t in planned.trainings]
    cells = list(
        dict.fromkeys(
            (c.metric.card.label(dict(c.metric.settings)), str(c.threat or ""))
            for c in planned.cells
        )
    )
    columns = [names, [f"{label} {threat}".strip() for label, threat in cells]]
    for i in range(max(map(len, columns))):
        table.add_row(*(escape(column[i]) if i < len(column) else "" for column in columns))
    out.print(table)
    out.print(
        f"\n{overview['models']} models x {len(cells)} metrics = {overview['cells']} cells on "
        f"{planned.data.name}, {overview['refits']} retrainings at most. {overview['estimate']}",
        highlight=False,
    )


@app.command()
def run(
    suite: Suite = "quick",
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None, device: Device = "auto",
    workers: Workers = None, folder: Out = None, data: Data = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a preflight check fails.")] = False,
) -> None:  # fmt: skip
    """Train, measure and report. The same command again continues, or finds that all is done."""
    from benchmark.place import Place
    from benchmark.progress import display
    from benchmark.run import run as execute

    planned = _planned(suite, dataset, model, trainer, metric, seeds, limit, split)
    own = _suite(suite).dataset == planned.data.name
    name = planned.suite.name if own else f"{planned.suite.name}-{_stem(planned.data.name)}"
    if split == "validation":
        name += "-validation"
    place = Place(folder or Path("results") / name, data, _device(device))
    workers = workers or (_cores() if place.device == "cpu" else 1)
    words = shlex.join(["bench", *sys.argv[1:]])
    try:
        with display(err, workers) as shown:
            result = execute(planned, place, workers, begin=shown.begin, words=words)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; continue with the same command: {words}") from None
    report(place.folder)
    for title, reason in result.failed:
        err.print(
            f"[red]failed[/] {escape(title)}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    for line in result.damaged:
        err.print(f"[red]damaged[/] {escape(line)}", highlight=False)
    for level, line in result.unfit:
        colour = {"WARN": "yellow", "FAIL": "red"}[level]
        err.print(f"[{colour}]preflight {level}[/] {escape(line)}", highlight=False, soft_wrap=True)
    if result.dropped:
        err.print(
            f"{result.dropped} cells of earlier commands (other images, recipe or code) left the tables; "
            "their results stay in the store."
        )
    if not result.computed and not result.failed:
        err.print("Nothing to do: every cell of this plan was done before.")
    raise typer.Exit(result.status(strict))


@app.command()
def train(
    trainer: Annotated[
        str, typer.Option("--trainer", "-t", help="A trainer's name, or a .py file.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d")] = "digits",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    threat: Annotated[str, typer.Option("--threat", help="Linf, L2 0.5, Linf 8/255.")] = "Linf",
    settings: Settings = None,
    recipe: RecipeChanges = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="A .safetensors file.")] = None,
    device: Device = "auto",
    data: Data = None,
) -> None:
    """Train one model and keep its weights as safetensors; prints the line that names it in a suite.

    The same command continues a training that was killed, from the file FILE.unfinished beside its target.
    """
    from benchmark.executors import prepare
    from benchmark.plan import plan as make
    from benchmark.progress import epoch_lines
    from benchmark.suite import Entry, Suite
    from benchmark.training import train_to_file

    changes = pairs(recipe, "--recipe") | ({"epochs": epochs} if epochs else {})
    entry = Entry(name=trainer, recipe=changes, **pairs(settings, "--set"))
    suite = Suite(
        name="train", dataset=dataset, seeds=[seed], threat=threat, trainer=[entry],
        metric=[Entry(name="clean_accuracy")], file="bench train",
    )  # fmt: skip
    training = make(suite).trainings[0]
    target = file or Path(f"{_stem(trainer)}-{_stem(dataset)}-seed{seed}.safetensors")
    prepare()
    try:
        with epoch_lines(err, training) as line:
            spec = train_to_file(training, target, data, _device(device), line)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command continues") from None
    print(spec)


@app.command()
def report(folder: Folder) -> None:
    """Write the tables and plots of a run again, from its records, and print the main table."""
    from benchmark import records
    from benchmark.report.write import terminal, write

    if (folder / "plan.json").is_file():
        records.refresh(folder)
    write(folder)
    for table in terminal(folder, width=out.width):
        out.print(table)
    err.print(f"Report: {folder / 'report'}", highlight=False, soft_wrap=True)


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """Tell how many cells of a run are done, failed or waiting."""
    from benchmark import ledger
    from benchmark.store import Store, StoreError

    book = ledger.read(folder)
    if book is None:
        raise StoreError(f"{folder} is not a run's folder: it has no plan.json")
    states = [book.state(Store(folder), entry) for entry in book.entries]
    counts = {state: states.count(state) for state in ("done", "failed", "waiting")}
    reasons = {
        f"{e.label} {e.threat} of {e.trainer}, seed {e.seed}".replace("  ", " "): book.failures[
            e.key
        ]
        for e, state in zip(book.entries, states, strict=True)
        if state == "failed"
    }
    if as_json:
        print(json.dumps({"suite": book.suite, **counts, "reasons": reasons}, indent=1))
        return
    out.print(
        f"suite {book.suite}: " + ", ".join(f"{n} {state}" for state, n in counts.items()),
        highlight=False,
    )
    for title, reason in reasons.items():
        out.print(f"failed {escape(title)}: {escape(reason)}", highlight=False)


@app.command()
def verify(folder: Folder, data: Data = None, device: Device = "auto") -> None:
    """Judge a run's saved adversarial examples again, and name every disagreement with what it recorded.

    Each is predicted in other batches than in the run: is it inside the ball and [0, 1], does the label change, is the
    unchanged image classified as it was? Exit status 1 if anything differs, 5 if a stored file is damaged.
    """
    from benchmark.executors import prepare
    from benchmark.verify import examples, outcome
    from benchmark.verify import verify as judged

    entries, without = examples(folder)
    if not entries:
        raise BenchError(
            f"{folder} keeps no adversarial examples: run attacks with adversarials > 0"
        )
    prepare()
    seen = []
    for number, checked in enumerate(judged(folder, entries, data, _device(device)), 1):
        seen.append(checked)
        err.print(f"{number}/{len(entries)} {escape(checked.title)}", highlight=False)
        for kind, line in checked.remarks:
            colour = "yellow" if kind == "not verifiable" else "red"
            out.print(f"[{colour}]{kind}[/] {escape(line)}", highlight=False)
    summary, status = outcome(seen, without)
    out.print(summary, highlight=False)
    raise typer.Exit(status)


@app.command()
def doctor(data: Data = None) -> None:
    """Check the installation: versions, known clashes, device, data."""
    from benchmark.doctor import examine

    healthy = True
    for name, verdict, detail in examine(data):
        colour = {"ok": "green", "note": "yellow", "broken": "red"}[verdict]
        out.print(
            f"[{colour}]{verdict:6}[/] {name}: {escape(detail)}", highlight=False, soft_wrap=True
        )
        healthy &= verdict != "broken"
    raise typer.Exit(0 if healthy else 1)


def _suite(name: str) -> Any:
    from benchmark.suite import read

    return read(name)


def _planned(
    name: str, dataset: str | None, model: list[str] | None, trainer: list[str] | None,
    metric: list[str] | None, seeds: str | None, limit: int | None, split: str | None,
) -> Any:  # fmt: skip
    """The plan of a suite as the options change it."""
    from benchmark.plan import plan as make
    from benchmark.suite import changed

    suite = changed(
        _suite(name), dataset=dataset, models=model or (), trainers=trainer or (),
        metrics=metric or (), seeds=_numbers(seeds), limit=limit, split=split,
    )  # fmt: skip
    return make(suite)


def _numbers(seeds: str | None) -> list[int]:
    try:
        return [] if seeds is None else [int(word) for word in seeds.split(",")]
    except ValueError:
        raise BenchError(
            f"--seeds {seeds!r}: whole numbers with commas between them, as in 0,1,2"
        ) from None


def _stem(name: str) -> str:
    """A name or path as part of a file's name."""
    return re.sub(r"\W+", "-", name.removesuffix(".py")).strip("-")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device(name: str) -> str:
    """The device that is meant; a name that is none, or is not here, is a usage error."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = "none"
    if kind not in ("cpu", "cuda"):
        raise BenchError(f"--device {name!r}: valid are auto, cpu, cuda, cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise BenchError(f"--device {name!r}: torch finds no CUDA device on this machine")
    return name


if __name__ == "__main__":
    main()
