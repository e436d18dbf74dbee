"""`bench train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands._options import Data, Device, Quiet, RecipeChanges, Settings, pairs
from benchmark.commands._shared import device_named, err, stem
from benchmark.errors import BenchError

if TYPE_CHECKING:
    from benchmark.plan import Training


def train(
    trainer: Annotated[
        str, typer.Option("--trainer", "-t", help="A trainer's name, or a .py file.")
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Its name, or folder:PATH.")
    ] = "digits",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the weights, the batches and the attacks.")
    ] = 0,
    threat: Annotated[
        str | None,
        typer.Option(
            "--threat",
            help="Linf (the default), L2 0.5, Linf 8/255. What is trained against, and what the epoch that is kept is "
            "chosen under; for a trainer that takes none only the second.",
        ),
    ] = None,
    settings: Settings = None,
    recipe: RecipeChanges = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Short for --recipe epochs=N.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .safetensors file, else one named after the training."),
    ] = None,
    device: Device = "auto",
    data: Data = None,
    quiet: Quiet = False,
) -> None:
    """Train one model and keep its weights as safetensors; prints the line that names it in a suite.

    The same command continues a training that was killed, from a file that ends with .unfinished beside its target. A
    file that is there is never written over: where it is of this very training nothing is done.
    """
    from benchmark.running.interrupts import stoppable

    if file and file.suffix != ".safetensors":
        raise BenchError(
            f"--out {file}: weights are kept as safetensors, and read by this ending: {file.stem}.safetensors"
        )
    with stoppable("interrupted; the same command continues"):
        from benchmark.executors import prepare
        from benchmark.measuring.standalone import train_to_file
        from benchmark.planner import plan as make
        from benchmark.running.progress import epoch_lines
        from benchmark.suite import Entry, Suite

        changes = pairs(recipe, "--recipe") | ({"epochs": epochs} if epochs else {})
        own = pairs(settings, "--set")
        if taken := sorted(own.keys() & Entry.model_fields.keys()):
            raise BenchError(
                f"--set {taken[0]}=... is no setting of a trainer: --trainer, --threat and --recipe say it"
            )
        entry = Entry(name=trainer, recipe=changes, **own)
        suite = Suite(
            name="train", dataset=dataset, seeds=[seed], threat=threat or "Linf", trainer=[entry],
            metric=[Entry(name="clean_accuracy")], file="bench train",
        )  # fmt: skip
        training, *others = make(suite).trainings
        if others:
            raise BenchError(
                f"bench train trains one model, this asks for {len(others) + 1}: {training.label}; "
                f"{'; '.join(other.label for other in others)}. A suite trains them all (bench run)"
            )
        if threat:
            _check_used(threat, training)
        target = file or Path(f"{stem(training.label)}-{stem(dataset)}-seed{seed}.safetensors")
        prepare()
        with epoch_lines(err, training, quiet) as line:
            spec = train_to_file(training, target, data, device_named(device), line, _say(quiet))
    print(spec)


def _say(quiet: bool) -> Callable[[str], None]:
    return lambda words: None if quiet else err.print(words, highlight=False, soft_wrap=True)


def _check_used(threat: str, training: Training) -> None:
    """BenchError for a threat that nothing would come of; a line where it is not trained against."""
    if training.threat or not training.recipe:
        return
    if training.recipe.keep == "last":
        raise BenchError(
            f"--threat {threat}: {training.label} takes no threat, and none chooses the epoch, as the last is kept"
        )
    err.print(
        f"{training.label} takes no threat: the epoch that is kept is chosen under {training.selection}",
        highlight=False,
    )
