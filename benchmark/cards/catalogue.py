"""What can be named in a suite, and the card of each: for `bench list` and `bench show`. No torch."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from benchmark import suite as suites
from benchmark.cards import KINDS, Card, CardError, Kind, cards, own, recipes
from benchmark.datasets.defaults import Defaults, defaults
from benchmark.datasets.defaults import names as dataset_names
from benchmark.models import published


def catalogue(what: str) -> list[dict[str, Any]]:
    """One row per method of a kind: name and what a reader needs to choose."""
    if what == "suites":
        read = (suites.read(name) for name in suites.names())
        return [{"name": suite.name, "description": suite.description} for suite in read]
    if what == "datasets":
        return [_dataset_row(name) for name in dataset_names()]
    if what == "attacks":
        found = [c for c in cards("metrics").values() if _is_attack(c)]
        return [{"name": card.name, "definition": card.summary} for card in found]
    if what == "metrics":
        ordered = sorted(cards("metrics").values(), key=lambda card: (card.family, card.name))
        return [
            {
                "name": card.name, "family": card.family,
                "better": card.measures[0].direction, "definition": card.summary,
            }
            for card in ordered
        ]  # fmt: skip
    kind: Kind = what  # type: ignore[assignment]
    return [
        {
            "name": card.name,
            **({"reconstruction": card.reconstruction} if kind == "trainers" else {}),
            "definition": card.summary,
        }
        for card in cards(kind).values()
    ]


def describe(name: str) -> tuple[str, dict[str, Any]]:
    """The card of anything that has a name, or of a user's file, as text and as facts.

    CardError or SpecError with the nearest names if there is none.
    """
    if name.startswith(published.PREFIX):
        return published.describe(name)
    if name.startswith(("torchvision:", "timm:", "file:", "python:")):
        from benchmark.models._shown import describe as shown

        return shown(name)
    if name.endswith(".py"):
        card = own(name)
        return _card_text(card), _card_facts(card)
    found: list[tuple[str, dict[str, Any]]] = []
    if name in suites.names():
        suite = suites.read(name)
        found.append((_suite_text(suite), suite.model_dump()))
    for kind in KINDS:
        if name in cards(kind):
            card = cards(kind)[name]
            found.append((_card_text(card), _card_facts(card)))
    if not found:
        known = [*suites.names(), *(other for kind in KINDS for other in cards(kind))]
        raise CardError(f"nothing is called {name!r}{_meant(name, known)}; {_LISTS}")
    text = "\n\n".join(text for text, _ in found)
    return text, found[0][1] if len(found) == 1 else {"found": [facts for _, facts in found]}


_LISTS = f"see bench list {', '.join(KINDS)} or suites"


def _meant(name: str, known: list[str]) -> str:
    close = get_close_matches(name, list(dict.fromkeys(known)), 3)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _is_attack(card: Card) -> bool:
    return any(measure.name == "robust_accuracy" for measure in card.measures)


def _known(dataset: Card) -> Defaults:
    return defaults("folder:PATH" if dataset.name == "folder" else dataset.name)


def _dataset_row(name: str) -> dict[str, str]:
    facts = _known(cards("datasets")[name])
    shape = f"{facts.channels}x{facts.size}x{facts.size}"
    return {
        "name": "folder:PATH" if name == "folder" else name,
        "images": shape,
        "classes": str(facts.classes or "by folder"),
        "threats": ", ".join(f"{norm} {eps}" for norm, eps in facts.threats.items()),
        "definition": cards("datasets")[name].summary,
    }


def _card_text(card: Card) -> str:
    head = f"{card.name}: {card.kind.removesuffix('s')}" + (
        f" ({card.family})" if card.family else ""
    )
    blocks = [head + ", a RECONSTRUCTION" * card.reconstruction, card.definition]
    for title, text in card.sections.items():
        if title not in ("Label", "Threat", "Args", "Measures"):
            blocks.append(f"{title}: {text}")
    if card.measures:
        lines = [_measure_line(measure) for measure in card.measures]
        blocks.append("Measures:\n" + "\n".join(f"  {line}" for line in lines))
    if card.parameters:
        lines = [f"{p.name} = {p.default!r} ({p.annotation})  {p.help}" for p in card.parameters]
        blocks.append("Settings:\n" + "\n".join(f"  {line.rstrip()}" for line in lines))
    if card.kind == "datasets":
        blocks.append(
            "; ".join(
                f"{k}: {v}"
                for k, v in _dataset_row(card.name).items()
                if k not in ("name", "definition")
            )
        )
        blocks.append(recipes.text(_known(card)))
    if card.needs_threat:
        under = f" under {' or '.join(card.norms)}" if card.norms else ""
        example = "Linf 8/255" if "Linf" in (card.norms or ("Linf",)) else f"{card.norms[0]} 0.5"
        blocks.append(f"Takes a threat model{under}, as in threat = '{example}'.")
    return "\n\n".join(blocks)


def _measure_line(measure: Any) -> str:
    better = "" if measure.direction == "none" else f"{measure.direction} is better, "
    curve = ", a curve" if measure.curve else ""
    return f"{measure.name} ({better}{measure.range}{curve}): {measure.help}"


def _card_facts(card: Card) -> dict[str, Any]:
    return {
        "name": card.name, "kind": card.kind, "family": card.family,
        "reconstruction": card.reconstruction, "needs_threat": card.needs_threat, "norms": card.norms,
        "definition": card.definition,
        **{title.lower(): text for title, text in card.sections.items() if title not in ("Args", "Measures", "Threat")},
        "measures": [vars(measure) for measure in card.measures],
        "settings": [
            {"name": p.name, "type": p.annotation, "default": p.default, "help": p.help}
            for p in card.parameters
        ],
        **(recipes.facts(_known(card)) if card.kind == "datasets" else {}),
    }  # fmt: skip


def _suite_text(suite: suites.Suite) -> str:
    lines = [f"{suite.name}: suite", "", suite.description, "", suites.source(suite.name)]
    return "\n".join(lines).rstrip()
