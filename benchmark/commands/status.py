"""`bench status`."""

from __future__ import annotations

import json

from rich.markup import escape

from benchmark.commands._shared import out
from benchmark.options import Folder, Json


def status(folder: Folder, as_json: Json = False) -> None:
    """Tell how many cells of a run are done, failed or waiting."""
    from benchmark import ledger
    from benchmark.store import Store, StoreError

    book = ledger.read(folder)
    if book is None:
        raise StoreError(f"{folder} is not a run's folder: it has no plan.json")
    states = [book.state(Store(folder), entry) for entry in book.entries]
    counts = {state: states.count(state) for state in ("done", "failed", "waiting")}
    reasons = {
        f"{e.label} {e.threat} of {e.trainer}, seed {e.seed}".replace("  ", " "): book.failures[
            e.key
        ]
        for e, state in zip(book.entries, states, strict=True)
        if state == "failed"
    }
    if as_json:
        print(json.dumps({"suite": book.suite, **counts, "reasons": reasons}, indent=1))
        return
    out.print(
        f"suite {book.suite}: " + ", ".join(f"{n} {state}" for state, n in counts.items()),
        highlight=False,
    )
    for title, reason in reasons.items():
        out.print(f"failed {escape(title)}: {escape(reason)}", highlight=False)
