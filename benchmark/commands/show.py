"""`bench show`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.commands._options import Json


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="sagr, auto_attack, ./mine.py, cifar10, kim2019, robustbench:cifar10/Linf, timm:NAME, "
            "file:PATH@ARCH, ...",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show the card of a trainer, metric, attribution, attack, model, data set or suite (bench list names them).

    Also of your own trainer or metric, by the path of its file.
    """
    from benchmark.cards.catalogue import describe

    text, facts = describe(name)
    print(json.dumps(facts, indent=1) if as_json else text)
