"""What the masking verdict says of the models of a run, from their stored scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmark.errors import IntegrityError
from benchmark.gradient_masking import Share, verdict
from benchmark.storage.ledger import Entry
from benchmark.store import Store


def masked(store: Store, entries: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """(WARN or FAIL, "model: code: evidence; remedy") of every reason; damaged results are told elsewhere."""
    for entry in entries:
        if entry.metric != "masking" or not store.has("cells", entry.key):
            continue
        try:
            scores, _ = store.arrays("cells", entry.key)
        except IntegrityError:
            continue
        seen = {
            name: scores[name][~np.isnan(scores[name])]
            for name in entry.directions
            if name in scores
        }
        shares = {
            name: Share(float(held.mean()), len(held)) for name, held in seen.items() if len(held)
        }
        name = f"{entry.dataset}, {entry.who}, {entry.threat}"
        for reason in verdict(shares).reasons if shares else ():
            yield reason.level, f"{name}: {reason.code}: {reason.evidence}; {reason.remedy}"
