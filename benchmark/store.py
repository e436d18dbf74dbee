"""Where results are kept: one file a result, named by its key, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from benchmark.errors import BenchError, IntegrityError
from benchmark.storage import shared
from benchmark.storage.atomic import write_atomically

if TYPE_CHECKING:
    from torch import Tensor


class StoreError(BenchError):
    """A folder that cannot be used; nothing in it was changed."""


@dataclass(frozen=True)
class Store:
    """The results of a run. `kind` is models, cells, adversarials, inspections, refits, manifolds or images."""

    folder: Path
    """Of the run."""
    url: str = ""
    """Where the results are; "": where the folder says, or in it."""

    def has(self, kind: str, key: str) -> bool:
        """Whether this result is there."""
        return self.path(kind, key).is_file()

    def path(self, kind: str, key: str) -> Path:
        """Where this result is, or would be."""
        url = self.url or shared.noted(self.folder)
        root = shared.root(url) if url else self.folder / "store"
        return root / kind / f"{key}.safetensors"

    def file(self, kind: str, key: str) -> Path:
        """A file with this result in the run's folder, for others there to name: a copy if results are elsewhere."""
        path, here = self.path(kind, key), self.folder / "store" / kind / f"{key}.safetensors"
        if path != here and not here.is_file():
            content = path.read_bytes()
            write_atomically(here, lambda file: file.write_bytes(content))
        return here

    def save(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], info: Mapping[str, Any]
    ) -> None:
        """Keep tensors and facts about them (anything JSON holds)."""
        from safetensors.torch import save

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {"info": json.dumps(info, sort_keys=True)}
        header["digest"] = _digest(save(plain, header))
        shared.put(self.path(kind, key), save(plain, header))

    def load(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was saved; IntegrityError if the file was changed since."""
        from safetensors.torch import load

        content, info = self._read(kind, key)
        return load(content), info

    def arrays(self, kind: str, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was saved, as numpy arrays (without torch); IntegrityError if the file was changed since."""
        from safetensors.numpy import load

        content, info = self._read(kind, key)
        return load(content), info

    def info(self, kind: str, key: str) -> dict[str, Any]:
        """The facts alone; IntegrityError if the file was changed since."""
        return self._read(kind, key)[1]

    def _read(self, kind: str, key: str) -> tuple[bytes, dict[str, Any]]:
        path = self.path(kind, key)
        content = path.read_bytes()
        try:
            header = _header(content)["__metadata__"]
            if header["digest"] == _digest(content):
                return content, json.loads(header["info"])
        except (ValueError, KeyError, TypeError, struct.error):
            pass  # cut, emptied, or written by something else
        raise IntegrityError(
            f"{path} is not what was written to it; delete it to have it computed anew"
        )

    def once(
        self, kind: str, key: str, compute: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors of this key, computed by whoever comes first; others wait for him and read them."""
        with self._lock(kind, key):
            if not self.has(kind, key):
                self.save(kind, key, compute(), {})
        return self.load(kind, key)[0]

    @contextmanager
    def claimed(self, kind: str, keys: Iterable[str]) -> Iterator[list[str]]:
        """Those of the keys that nobody has computed or is computing: the caller's to compute within the block."""
        with ExitStack() as held:
            mine = []
            for key in keys:
                with suppress(Timeout):
                    held.enter_context(self._lock(kind, key, timeout=0))
                    if not self.has(kind, key):
                        mine.append(key)
            yield mine

    def awaited(self, kind: str, key: str) -> bool:
        """Whether a result is there, once nobody is computing it any more."""
        with self._lock(kind, key):
            return self.has(kind, key)

    def _lock(self, kind: str, key: str, timeout: float = -1) -> FileLock:
        lock = self.folder / "store" / "locks" / f"{kind}-{key}"
        lock.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(lock, timeout=timeout)

    def discard(self, kind: str) -> bool:
        """Remove the results of a kind, unless others may be reading them too; whether they were removed."""
        if self.url or shared.noted(self.folder):
            return False
        shutil.rmtree(self.folder / "store" / kind, ignore_errors=True)
        return True

    def discard_unfinished(self) -> None:
        """Remove what a killed run was writing, in the places where a run writes."""
        for place in (".", "report", "gallery", "store/*"):
            for path in self.folder.glob(f"{place}/.writing-*"):
                path.unlink(missing_ok=True)

    def discard_locks(self) -> None:
        """Remove the locks of `once`; only while nobody can hold one."""
        shutil.rmtree(self.folder / "store" / "locks", ignore_errors=True)


_BEFORE_PLAN = (".lock", ".writing-*", "errors.log", "running", "stale", "store.url")
"""What a run that was killed at its very beginning may leave."""


def no_plan(folder: Path) -> str:
    """What a folder without a run's plan is, in words."""
    if (folder / "records.parquet").is_file():
        return (
            f"{folder} holds the results of a run without its plan.json, as they are published: bench report, compare "
            "and export read them, and nothing can be added"
        )
    if folder.is_dir() and any(folder.iterdir()):
        return f"{folder} is not empty and holds no run (it has no plan.json)"
    return f"{folder} is not a run's folder: it has no plan.json"


def locked(folder: Path) -> FileLock:
    """The right to write into a folder, for one run at a time; StoreError if it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [p for p in folder.iterdir() if not any(map(p.match, _BEFORE_PLAN))]
        if others and not (folder / "plan.json").is_file():
            raise StoreError(f"{no_plan(folder)}; give another folder with --out")
        # `bench status` holds it for an instant, to see whether it can be had
        lock = FileLock(folder / ".lock", timeout=0.5)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another run is writing to {folder}; wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror}; give another --out"
        ) from None
    return lock


def _header(content: bytes) -> dict[str, Any]:
    """The JSON at the head of a safetensors file, behind its length."""
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header


def _digest(content: bytes) -> str:
    """Over the layout, the facts and the numbers of a safetensors file, not over the digest itself."""
    header = _header(content)
    info = header.pop("__metadata__")["info"]
    (length,) = struct.unpack("<Q", content[:8])
    digest = hashlib.sha256(json.dumps([header, info], sort_keys=True).encode())
    digest.update(content[8 + length :])
    return digest.hexdigest()
