"""Results that several runs and machines keep in one place: a folder, or any place that fsspec knows (s3://, gs://).

A result is named by the hash of everything that determines it, so that runs which share a place neither disturb one
another nor compute twice what is there. A run's folder notes where its results are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from benchmark.errors import BenchError
from benchmark.storage.atomic import write_atomically

_NOTE = "store.url"


class SharedError(BenchError):
    """A place for results that cannot be used."""


def noted(folder: Path) -> str:
    """Where a run's results are, if they are not in its folder."""
    path = folder / _NOTE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def agreed(folder: Path, wanted: str | None) -> str:
    """Where a run's results are to be, "" for its folder; SharedError if it is not writable, or they are elsewhere."""
    if re.match(r"\w+:/", str(folder)):  # a Path has lost one of the slashes by now
        raise SharedError(
            f"--out {folder}: a run's folder is a local one; its results can be at --store URL"
        )
    known = noted(folder)
    url = known if wanted is None else _absolute(wanted)
    if url != known and (folder / "plan.json").is_file():
        there = known or "the folder itself"
        raise SharedError(
            f"the results of {folder} are in {there}; give another --out, or no --store"
        )
    if url:
        try:
            put(root(url) / "writable", b"")
        except Exception as error:  # each kind of storage has errors of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SharedError(f"cannot write to --store {url}: {reason}") from None
    return url


def note(folder: Path, url: str) -> None:
    """Let the folder of a run know."""
    if url and noted(folder) != url:
        write_atomically(folder / _NOTE, lambda path: path.write_text(url + "\n", encoding="utf-8"))


def root(url: str) -> Path:
    """The folder of these results; one of a remote place can do what we need of a Path, but is none."""
    scheme, is_url, rest = url.partition("://")
    if not is_url:  # whatever signs are in it
        return Path(url)
    if scheme == "file":
        return Path("/" + unquote(rest.partition("/")[2]))
    from upath import UPath

    # a listing that is remembered would not show what others have put there since
    return cast(Path, UPath(url, use_listings_cache=False))


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    if isinstance(path, Path):
        write_atomically(path, lambda file: file.write_bytes(content))
    else:  # an object appears when all of it has arrived
        path.fs.pipe_file(path.path, content)


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).absolute())
