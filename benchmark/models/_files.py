"""Files of weights, read without running what is in them.

Reads safetensors and what `torch.save` writes, the latter with `weights_only=True` alone: a pickle that would run code
is refused before anything of it runs.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from benchmark.models.base import ModelError

# what training scripts keep beside the weights: numbers of numpy, and settings of the command line
_BESIDE = (
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    "numpy.ndarray", "numpy.dtype", "argparse.Namespace",
)  # fmt: skip


def content(path: Path) -> bytes:
    """The bytes of the file; ModelError where there are none."""
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror})") from None
    if not found:
        raise ModelError("the file is empty (0 bytes); delete it and get it again")
    return found


def load(path: Path, pin: str = "") -> tuple[object, str]:
    """What is in the file, made of tensors and plain containers only, and its sha256; ModelError says what is wrong.

    With `pin`, a file of another sha256 is not even looked at.
    """
    found = content(path)
    digest = hashlib.sha256(found).hexdigest()
    if pin not in ("", digest):
        raise ModelError(
            f"is not the file that is meant: its sha256 is {digest}, the specification pins {pin}"
        )
    return read(path, found), digest


def read(path: Path, content: bytes) -> object:
    """The object in the file, made of tensors and plain containers only."""
    _refuse_other_formats(content)
    if path.suffix == ".safetensors":
        return _read_safetensors(content)
    return _read_torch(content)


def _refuse_other_formats(content: bytes) -> None:
    """ModelError for what downloads leave behind where a checkpoint should be."""
    start = content[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(
            "is a web page, not a checkpoint: the download gave a page instead of the file; delete it and get it "
            "again, in a browser if need be"
        )
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            "is a Git LFS pointer, not the checkpoint itself; fetch it with `git lfs pull`"
        )
    if content[257:262] == b"ustar":
        raise ModelError("is a tar archive; unpack it and name the checkpoint that is in it")
    if content.startswith(b"\x1f\x8b"):
        raise ModelError("is a gzip archive; unpack it and name the checkpoint that is in it")
    if content.startswith(b"PK\x03\x04"):
        _check_zip(content)


def _check_zip(content: bytes) -> None:
    """ModelError for an archive that `torch.save` did not write."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise ModelError(_damaged(error)) from None
    if broken:  # torch reads such numbers without a word
        raise ModelError(_damaged(f"the checksum of {broken} is another one"))
    for name in names:
        # nothing is unpacked here, but no training script writes such names
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise ModelError(
                f"refused: the archive holds a path that leads out of it ({name!r:.80})"
            )
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise ModelError(
            "is a zip archive that torch.save did not write; unpack it and name the checkpoint that is in it"
        )


def _read_safetensors(content: bytes) -> object:
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, struct.error) as error:
        if b"{" in content[:9]:
            raise ModelError(_damaged(error)) from None
        raise ModelError(f"is not a safetensors file ({_first_line(error)})") from None


def _read_torch(content: bytes) -> object:
    try:
        with _stand_ins(), warnings.catch_warnings():
            # told below, where it matters: what cannot be read
            warnings.filterwarnings(
                "ignore", "Detected pickle protocol|'torch.load' received a zip file"
            )
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file leads to: torch names no common class
        raise ModelError(_reason(error, content)) from None


class _StandIn:
    """Takes the place of an object that is no tensor: made from anything, it keeps and does nothing."""

    def __new__(cls, *_: object) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_SINCE_PROTOCOL_4 = r"1(4\d|5[0-2])"
"""Codes of a pickle that torch.save does not write by itself, and its reader does not know."""


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Inside, torch's reader makes inert objects of what `_BESIDE` names, and allows nothing else beside tensors.

    Not numpy's own classes: a `numpy.dtype` sets its layout from the file, and so could be made to read foreign memory.
    """
    serialization = torch.serialization
    before = serialization.get_safe_globals()
    names = (name.rpartition(".") for name in _BESIDE)
    inert: list[Any] = [
        type(name, (_StandIn,), {"__module__": module}) for module, _, name in names
    ]
    serialization.clear_safe_globals()
    serialization.add_safe_globals(inert)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _reason(error: Exception, content: bytes) -> str:
    """Why torch.load refused, in one line."""
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which holds code; save its state_dict() instead"
    if code := re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)|function ([\w.]+)", text):
        name = next(filter(None, code.groups()))
        return f"refused: loading it would run code ({name}); save its state_dict() instead"
    if re.search(rf"Unsupported operand {_SINCE_PROTOCOL_4}\b", text):
        return "refused: loading a pickle of protocol 4 or later may run code; save its state_dict() with torch.save"
    if content.startswith((b"PK\x03\x04", b"\x80")):
        if isinstance(error, pickle.UnpicklingError) and "Weights only load failed" in text:
            detail = _first_line(text.split("WeightsUnpickler error:")[-1])
            return f"is damaged, or holds more than tensors ({detail}); get it again"
        return _damaged(error)
    return "is not a checkpoint: neither torch.save's format nor safetensors"


def _damaged(error: object) -> str:
    return f"is truncated or damaged ({_first_line(error)}); delete it and get it again"


def _first_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0].strip()[:120] if lines else type(text).__name__
