"""Results that are to be computed again although they are there: asked for by name, known until each is done.

The keys stand as empty files in `stale/` of a run's folder. A result stays until the new one takes its place, and a run
that is stopped meanwhile continues with those that are left. Models are not trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.cards import nearest
from benchmark.errors import BenchError
from benchmark.storage import records, shared
from benchmark.storage.ledger import Entry
from benchmark.store import Store

ALL = "all"
_CACHED = {"manifolds": "generators of manifolds", "refits": "retrainings"}


def named(names: Sequence[str], entries: Iterable[Entry]) -> frozenset[str]:
    """The keys of the cells whose metric, by name or label, is among the names; BenchError for a name of none."""
    lines = tuple(entries)
    known = [ALL, *dict.fromkeys(n for line in lines for n in (line.metric, line.label))]
    for name in names:
        if name not in known:
            raise BenchError(
                f"--refresh {name!r}: this plan has no such metric{nearest(name, known)}"
            )
    wanted = set(names)
    return frozenset(line.key for line in lines if wanted & {ALL, line.metric, line.label})


def ask(store: Store, keys: Iterable[str], caches: Iterable[str]) -> tuple[str, ...]:
    """Mark the cells that are there, and discard what was kept on the way to them: results of these kinds.

    Returns what the user should hear: which of them stay, as they are shared, and are not computed again.
    """
    stay = [_CACHED[kind] for kind in sorted(caches) if not store.discard(kind)]
    for key in keys:
        if store.has("cells", key):
            _path(store.folder, key).parent.mkdir(exist_ok=True)
            _path(store.folder, key).touch()
    if not stay:
        return ()
    place = store.url or shared.noted(store.folder)
    return (
        f"--refresh: {' and '.join(stay)} are not computed again, as other runs may be reading those in {place}: the "
        "cells are, from these. To have all computed again give another --out, with another --store or none",
    )


def asked(folder: Path, entries: Iterable[Entry]) -> frozenset[str]:
    """The cells that are still to be computed again."""
    keys = {path.name for path in (folder / "stale").glob("*")}
    return frozenset(line.key for line in entries if line.key in keys)


def answered(folder: Path, key: str) -> None:
    """A cell was computed, again if that was asked for."""
    if _path(folder, key).is_file():
        records.outdate(folder)
        _path(folder, key).unlink()
        with suppress(OSError):  # others are left
            (folder / "stale").rmdir()


def _path(folder: Path, key: str) -> Path:
    return folder / "stale" / key
