"""`bench run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.commands._options import (
    Address,
    Data,
    Dataset,
    Device,
    Executor,
    Limit,
    Metrics,
    Models,
    Out,
    Quiet,
    Refresh,
    Results,
    Scale,
    Seeds,
    Split,
    Suite,
    Trainers,
    Workers,
)
from benchmark.commands._shared import device_named, err, named_suite, planned_as, stem
from benchmark.commands.report import written


def run(
    suite: Suite = "quick",
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None, scale: Scale = None,
    device: Device = "auto",
    workers: Workers = None, executor: Executor = "processes", address: Address = None,
    folder: Out = None, store: Results = None, data: Data = None, refresh: Refresh = None, quiet: Quiet = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if preflight or masking says FAIL.")] = False,
) -> None:  # fmt: skip
    """Train, measure and report. The same command again continues, or finds that all is done."""
    from benchmark.running.interrupts import stoppable
    from benchmark.running.journal import Journal

    journal, words = Journal(err, quiet), ["bench", *sys.argv[1:]]
    again = shlex.join(_without_refresh(words))
    stopped = f"interrupted; continue with the same command: {again}"
    with journal.following(), stoppable(stopped):
        from benchmark.executors import chosen
        from benchmark.measuring.place import Place
        from benchmark.storage.shared import agreed

        planned = planned_as(suite, dataset, model, trainer, metric, seeds, limit, split, scale)
        usual = _folder(planned, named_suite(suite).dataset, split)
        out = folder or usual
        # a cluster's GPUs may all be in other machines than this one
        elsewhere = (executor, device) == ("ray", "cuda")
        named = device if elsewhere else device_named(device)
        place = Place(out, data, named, agreed(out, store))
        execute, count = chosen(executor, address=address, workers=workers, device=place.device)
        status = _carried_out(planned, place, count, execute, journal, words, refresh or (), strict)
    raise typer.Exit(status)


def _folder(planned: Any, dataset: str, split: str | None) -> Path:
    """Where a run goes that is not told where."""
    own = dataset == planned.data.name
    name = planned.suite.name if own else f"{planned.suite.name}-{stem(planned.data.name)}"
    return Path("results") / (f"{name}-validation" if split == "validation" else name)


def _carried_out(
    planned: Any, place: Any, workers: int, execute: Any, journal: Any, words: list[str],
    refresh: Sequence[str], strict: bool,
) -> int:  # fmt: skip
    """Run, report, and tell how it went; the exit status."""
    from benchmark.running.progress import display
    from benchmark.running.run import run as carry_out

    command = shlex.join(words)
    with display(journal, place.folder, planned, workers, command) as shown:
        result = carry_out(
            planned, place, workers, execute=execute, begin=shown.begin, words=command,
            again=refresh, tell=journal.say,
        )  # fmt: skip
    page = written(place.folder, journal.quiet)
    if not journal.quiet:
        err.print(f"Report: {page}", highlight=False, soft_wrap=True)
        # each was shown when it failed, and nothing since
        for title, reason in result.causes:
            journal.warn("failed", f"{title}: {reason}")
    for line in result.damaged:
        journal.warn("damaged", line)
    for level, line in result.unfit:
        journal.warn(f"preflight {level}", line, {"WARN": "yellow", "FAIL": "red"}[level])
    for level, line in result.masked:
        journal.warn(f"masking {level}", line, {"WARN": "yellow", "FAIL": "red"}[level])
    if result.dropped:
        journal.say(
            f"{result.dropped} cells of earlier commands (of other images, recipe or code, or no longer in the suite) "
            "left the tables; their results stay in the store."
        )
    journal.close(_summary(result, place.folder))
    return int(result.status(strict))


def _summary(result: Any, folder: Path) -> str:
    if not result.computed and not result.failed:
        return f"Nothing to do: every cell of this plan was done before. See {folder / 'report'}"
    return f"{result.computed} jobs done, {len(result.failed)} failed. See {folder / 'report'}"


def _without_refresh(words: list[str]) -> list[str]:
    """The command that continues: what is still to be computed again is known in the folder."""
    kept, skipped = [], False
    for word in words:
        if not skipped and word != "--refresh" and not word.startswith("--refresh="):
            kept.append(word)
        skipped = word == "--refresh" and not skipped
    return kept
