"""What stands behind the question mark of a specification: NAME=VALUE&NAME=VALUE."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.models._architecture import SpecError

ACTIVATIONS = ("relu", "softplus", "gelu", "silu")

Reader = Callable[[str, str], Any]
"""(name, text) -> value; SpecError if the text is none."""


def read(query: str, readers: Mapping[str, Reader], owner: str) -> dict[str, Any]:
    """The settings by name; SpecError for one that `owner` does not take, or that stands there twice."""
    found: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise SpecError(f"setting {pair!r} has no value; write it as NAME=VALUE")
        if name in found:
            raise SpecError(f"setting {name!r} stands there twice")
        if name not in readers:
            raise SpecError(f"{owner} has no setting {name!r}; valid: {', '.join(readers)}")
        found[name] = readers[name](name, value)
    return found


def check_normalisation(found: Mapping[str, Any]) -> None:
    """SpecError unless mean and std fit each other."""
    mean, std = found.get("mean", ()), found.get("std", ())
    if len(mean) != len(std):
        raise SpecError(
            f"mean has {len(mean)} numbers and std {len(std)}; give both, one number per channel"
        )
    if std and min(std) <= 0:
        raise SpecError(f"std needs positive numbers, got {list(std)}")


def integer(name: str, text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise SpecError(f"{name} needs a whole number, got {text!r}")
    return int(text)


def existing(name: str, text: str) -> Path:
    """A file that is there."""
    path = Path(text).expanduser()
    check_file(path)
    return path


def check_file(path: Path) -> None:
    """SpecError unless there is such a file."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SpecError(f"{str(path)!r} {what}")


def _numbers(name: str, text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    try:
        number = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        number = math.nan
    if not math.isfinite(number):
        raise SpecError(
            f"{text!r} is not a number; valid: 0.4914 or 125.3/255, with commas between channels"
        )
    return number


def _activation(name: str, text: str) -> str:
    if text not in ACTIVATIONS:
        raise SpecError(f"unknown activation {text!r}; valid: {', '.join(ACTIVATIONS)}")
    return text


def sha256(name: str, text: str) -> str:
    """The digest of a file."""
    if not re.fullmatch(r"[0-9a-f]{64}", text.lower()):
        raise SpecError(f"{name} needs 64 hexadecimal digits, got {text!r}")
    return text.lower()


def digests(name: str, text: str) -> tuple[str, ...]:
    """One digest for each file of a model."""
    return tuple(sha256(name, part) for part in text.split(","))


NORMALISATION: dict[str, Reader] = {"mean": _numbers, "std": _numbers}
WEIGHTS: dict[str, Reader] = {
    "key": lambda name, text: tuple(text.split(".")),
    "ignore": lambda name, text: tuple(text.split(",")),
    "sha256": sha256,
}
ACTIVATION: dict[str, Reader] = {"activation": _activation}
ORIGIN: dict[str, Reader] = {"licence": lambda name, text: text, "source": lambda name, text: text}
