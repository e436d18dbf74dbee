"""The docstring of a method, taken apart: free text, named sections, the measures and settings they describe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from textwrap import dedent
from typing import Literal

from benchmark.errors import BenchError

SECTIONS = (
    "Label", "Threat", "Reconstruction", "Formula", "Measures", "Map", "Chance", "Args", "Cost", "Pitfalls", "Paper",
)  # fmt: skip

_EXAMPLE = "'Measures:' and under it, indented, 'good (higher, 0..1): What it means.'"


class CardError(BenchError):
    """A method, a setting or a value that does not exist; the message says what came and what would be valid."""


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives for each image; `curve` if it is given at several abscissae."""

    name: str
    direction: Literal["higher", "lower", "none"]
    range: str
    help: str
    curve: bool


def split(docstring: str) -> tuple[str, dict[str, str]]:
    """Free text, and the sections that begin with a known word and a colon."""
    heading = re.compile(rf"^({'|'.join(SECTIONS)}):[ \n]", re.MULTILINE)
    parts = heading.split(docstring + "\n")
    return parts[0].strip(), dict(zip(parts[1::2], map(_dedented, parts[2::2]), strict=True))


def _dedented(part: str) -> str:
    """A section without its indentation; what stands beside the heading has none of it."""
    beside, newline, under = part.partition("\n")
    whole = not beside or beside.startswith(" ")  # all of it stands under the heading
    return (dedent(part) if whole else beside + newline + dedent(under)).strip()


def entries(section: str) -> Iterator[tuple[str, str]]:
    """(head, text) of the lines `head: text` of a section; indented lines go on with the text."""
    for match in re.finditer(r"^(\S.*?): (.*(?:\n[ \t]+.*)*)", section, re.MULTILINE):
        yield match[1], re.sub(r"\s+", " ", match[2]).strip()


def measures(path: Path, name: str, section: str) -> tuple[Measure, ...]:
    """What a metric says it measures; CardError unless it names something that can be better or worse."""
    found = tuple(_measure(path, head, text) for head, text in entries(section))
    if not found:
        raise CardError(f"{path}: the docstring of {name} names no measures; add {_EXAMPLE}")
    if found[0].direction == "none":
        raise CardError(
            f"{path}: measure {found[0].name!r} is the first, and so must be better 'higher' or 'lower', got 'none'"
        )
    return found


def _measure(path: Path, head: str, text: str) -> Measure:
    match = re.fullmatch(r"(\w+)(@?) \((higher|lower|none), (.+)\)", head)
    if match is None:
        raise CardError(f"{path}: measure {head!r} must read 'name (higher|lower|none, range)'")
    return Measure(match[1], match[3], match[4], text, match[2] == "@")  # type: ignore[arg-type]


def check_label(path: Path, template: str, settings: Iterable[str]) -> None:
    """CardError if a label cannot be filled in with these settings."""
    valid = sorted(settings)
    try:
        # (text, field, format, conversion): a setting as it is, or nothing
        parts = [part[1:] for part in Formatter().parse(template)]
    except ValueError as error:
        raise CardError(f"{path}: Label {template!r}: {error}") from None
    for field, form, conversion in parts:
        if field is not None and (field not in valid or form or conversion):
            raise CardError(
                f"{path}: Label {template!r}: {field!r} must be the name of a setting alone; "
                f"valid: {', '.join(valid) or 'none'}"
            )
