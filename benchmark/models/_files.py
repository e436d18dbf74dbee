"""Files of weights, read without running what is in them.

Reads safetensors and what `torch.save` writes, the latter with `weights_only=True` alone: a pickle that would run code
is refused before anything of it runs.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from benchmark.models.base import ModelError


def content(path: Path) -> bytes:
    """The bytes of the file; ModelError where there are none."""
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror})") from None
    if not found:
        raise ModelError("the file is empty (0 bytes)")
    return found


def read(path: Path, content: bytes) -> object:
    """The object in the file, made of tensors and plain containers only."""
    start = content[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(
            "is a web page, not a checkpoint; the download gave a page instead of the file"
        )
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            "is a Git LFS pointer, not the checkpoint itself; fetch it with `git lfs pull`"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(content)
    return _read_torch(content)


def _read_safetensors(content: bytes) -> object:
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, struct.error) as error:
        reason = "is truncated or damaged" if b"{" in content[:9] else "is not a safetensors file"
        raise ModelError(f"{reason} ({_first_line(error)})") from None


def _read_torch(content: bytes) -> object:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file leads to: torch names no common class
        raise ModelError(_reason(error, content)) from None


def _reason(error: Exception, content: bytes) -> str:
    """Why torch.load refused, in one line."""
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which holds code; save its state_dict() instead"
    if code := re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)|function ([\w.]+)", text):
        name = next(filter(None, code.groups()))
        return f"refused: loading it would run code ({name}); save its state_dict() instead"
    if content.startswith((b"PK\x03\x04", b"\x80")):
        if isinstance(error, pickle.UnpicklingError) and "Weights only load failed" in text:
            detail = _first_line(text.split("WeightsUnpickler error:")[-1])
            return f"is damaged, or holds more than tensors ({detail})"
        return f"is truncated or damaged ({_first_line(error)})"
    return "is not a checkpoint: neither torch.save's format nor safetensors"


def _first_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0].strip()[:120] if lines else type(text).__name__
