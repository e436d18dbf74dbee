"""Unfinished trainings on disk: what a killed training continues from."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark.storage.atomic import write_atomically


class FileSnapshots:
    """The last snapshot of one training in one file, at most one write in `every` seconds.

    `key` stands for everything that determines the training: the snapshot of another one is not continued. Nor is a
    damaged one; the training then begins anew.
    """

    def __init__(self, path: Path, key: str, device: str, every: float = 30.0) -> None:
        self.path, self.key, self.device, self.every = path, key, device, every
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The snapshot, on the training's device; none if there is none of this training."""
        if not self.path.is_file():
            return None
        digest, _, content = self.path.read_bytes().partition(b"\n")
        if digest.decode(errors="replace") != self._digest(content):
            return None
        snapshot: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location=self.device, weights_only=True
        )
        return snapshot

    def offer(self, make: Callable[[], dict[str, Any]]) -> None:
        """Write what `make` returns if the last time was long enough ago."""
        if time.monotonic() - self._last < self.every:
            return
        buffer = io.BytesIO()
        torch.save(make(), buffer)
        content = buffer.getvalue()
        head = self._digest(content).encode() + b"\n"
        write_atomically(self.path, lambda path: path.write_bytes(head + content))
        self._last = time.monotonic()

    def discard(self) -> None:
        """The training has ended: nothing is left to continue."""
        self.path.unlink(missing_ok=True)

    def _digest(self, content: bytes) -> str:
        return hashlib.sha256(self.key.encode() + content).hexdigest()
