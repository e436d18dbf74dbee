"""What commands share: the two consoles, and options turned into what they mean. No torch before it is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console

from benchmark.errors import BenchError

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def named_suite(name: str) -> Any:
    from benchmark.suite import read

    return read(name)


def planned_as(
    name: str, dataset: str | None, model: list[str] | None, trainer: list[str] | None,
    metric: list[str] | None, seeds: str | None, limit: int | None, split: str | None,
    scale: str | None = None,
) -> Any:  # fmt: skip
    """The plan of a suite as the options change it."""
    from benchmark.planner import plan as make
    from benchmark.suite import changed, scaled

    _check_models(model or ())
    _check_methods("trainer", trainer or ())
    _check_methods("metric", metric or ())
    _check_dataset(dataset)
    suite = changed(
        scaled(named_suite(name), scale), dataset=dataset, models=model or (), trainers=trainer or (),
        metrics=metric or (), seeds=_numbers(seeds), limit=limit, split=split,
    )  # fmt: skip
    return make(suite)


def _check_models(texts: Sequence[str]) -> None:
    """BenchError that names the option, which an error of the suite that they become part of would not."""
    from benchmark.models.spec import SpecError, parse

    for text in texts:
        try:
            parse(text)
        except SpecError as error:  # "model 'TEXT': ..."
            raise BenchError(f"--{error}") from None


def _check_methods(option: Literal["trainer", "metric"], names: Sequence[str]) -> None:
    """BenchError that names the option unless these are methods or files of one's own."""
    from benchmark.cards import CardError, card
    from benchmark.suite import NONE

    for name in names:
        try:
            if name != "*" and (option, name) != ("trainer", NONE):
                card(f"{option}s", name)  # type: ignore[arg-type]
        except CardError as error:
            raise BenchError(f"--{option}: {error}") from None


def _check_dataset(name: str | None) -> None:
    from benchmark.datasets.defaults import UnknownDataset, defaults

    try:
        if name is not None:
            defaults(name)
    except UnknownDataset as error:
        raise BenchError(f"--dataset: {error}") from None


def _numbers(seeds: str | None) -> list[int]:
    words = [] if seeds is None else [word.strip() for word in seeds.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise BenchError(
            f"--seeds {seeds!r}: different whole numbers from 0 on with commas between them, as in 0,1,2"
        )
    return [int(word) for word in words]


def stem(name: str) -> str:
    """A name or path as part of a file's name."""
    return re.sub(r"\W+", "-", name.removesuffix(".py")).strip("-")


def device_named(name: str) -> str:
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
