"""Where results are kept: one file a result, named by its key, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from benchmark.errors import BenchError, IntegrityError

if TYPE_CHECKING:
    from torch import Tensor


class StoreError(BenchError):
    """A folder that cannot be used; nothing in it was changed."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file at a temporary place, then put it at `path` in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """The content as indented JSON, atomically."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class Store:
    """The results in one folder. `kind` is models, cells, refits or manifolds."""

    folder: Path

    def has(self, kind: str, key: str) -> bool:
        """Whether this result is there."""
        return self.path(kind, key).is_file()

    def path(self, kind: str, key: str) -> Path:
        """Where this result is, or would be."""
        return self.folder / "store" / kind / f"{key}.safetensors"

    def save(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], info: Mapping[str, Any]
    ) -> None:
        """Keep tensors and facts about them (anything JSON holds)."""
        from safetensors.torch import save_file

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(info, sort_keys=True)
        header = {"info": text, "digest": _digest(plain, text)}
        write_atomically(self.path(kind, key), lambda file: save_file(plain, file, header))

    def load(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was saved; IntegrityError if the file was changed since."""
        from safetensors import SafetensorError, safe_open

        path = self.path(kind, key)
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise IntegrityError(
                f"{path} is damaged ({error}); delete it to have it computed anew"
            ) from None
        info = header.get("info", "")
        if header.get("digest") != _digest(tensors, info):
            raise IntegrityError(
                f"{path} is not what was written to it (its digest differs); delete it to have it computed anew"
            )
        return tensors, json.loads(info)

    def arrays(self, kind: str, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was saved, as numpy arrays (without torch)."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.path(kind, key)
        try:
            return load(path.read_bytes()), self.info(kind, key)
        except SafetensorError as error:
            raise IntegrityError(
                f"{path} is damaged ({error}); delete it to have it computed anew"
            ) from None

    def info(self, kind: str, key: str) -> dict[str, Any]:
        """The facts alone, without reading the tensors (and without torch)."""
        from safetensors import safe_open

        with safe_open(self.path(kind, key), "np") as file:
            return json.loads((file.metadata() or {})["info"])

    def once(
        self, kind: str, key: str, compute: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors of this key, computed by whoever comes first; others wait for him and read them."""
        lock = self.folder / "store" / "locks" / f"{kind}-{key}"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not self.has(kind, key):
                self.save(kind, key, compute(), {})
        return self.load(kind, key)[0]

    def discard_unfinished(self) -> None:
        """Remove what a killed run was writing."""
        for path in self.folder.glob("**/.writing-*"):
            path.unlink(missing_ok=True)


def locked(folder: Path) -> FileLock:
    """The right to write into a folder, for one run at a time; StoreError if another run has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another run is writing to {folder}; wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}") from None
    return lock


def _digest(tensors: Mapping[str, Tensor], info: str) -> str:
    digest = hashlib.sha256(info.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(_bytes()).numpy().tobytes())
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
