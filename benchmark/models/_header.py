"""What the header of a safetensors file says of its model, written and read without torch and without the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

SUFFIX = ".safetensors"
_LONGEST = 16 * 2**20
"""Bytes; the header of a network of a thousand layers has a hundredth of this."""


def header(
    architecture: str, mean: Sequence[float], std: Sequence[float], activation: str
) -> dict[str, str]:
    """What `safetensors.torch.save_file(..., metadata=...)` writes so that the file names its own architecture."""
    told = {"architecture": architecture, "activation": activation}
    for name, numbers in (("mean", mean), ("std", std)):
        if numbers:
            told[name] = ",".join(repr(float(number)) for number in numbers)
    return told


def read(path: Path) -> dict[str, str]:
    """The header's texts by name if they name an architecture; otherwise, and where there is no header, nothing."""
    if path.suffix != SUFFIX:
        return {}
    try:
        texts = json.loads(_bytes(path)).get("__metadata__", {})
        named = {str(name): str(text) for name, text in texts.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}  # whether it is a whole safetensors file, its loader says
    return named if "architecture" in named else {}


def _bytes(path: Path) -> bytes:
    """The JSON at the head of the file; nothing where its length cannot be."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(length) if length <= min(_LONGEST, path.stat().st_size - 8) else b""
