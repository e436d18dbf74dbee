"""`bench show`."""

from __future__ import annotations

import json

from benchmark.commands._options import Json


def show(name: str, as_json: Json = False) -> None:
    """Show the card of a trainer, metric, attribution, model (timm:NAME, file:PATH@ARCH, ...), data set or suite."""
    from benchmark.cards.catalogue import describe

    text, facts = describe(name)
    print(json.dumps(facts, indent=1) if as_json else text)
