"""What a run is to cite: the sources of its trainings, metrics, data, models, statistics and packages. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

from benchmark.cards import Card, cards
from benchmark.cards.references import Reference, SourceError, citations, cited, sources
from benchmark.models.published import PREFIX, published
from benchmark.report.read import Run
from benchmark.report.tables.columns import settings


def bibtex(run: Run) -> str:
    """A .bib file of what the run used, each entry below a line that says for what; the suite itself first."""
    found: dict[str, tuple[Reference, list[str]]] = {}
    for entry, use in _used(run):
        found.setdefault(entry.key, (entry, []))[1].append(use)
    blocks = [
        f"% {', '.join(dict.fromkeys(uses))}\n{entry.bibtex()}" for entry, uses in found.values()
    ]
    return "\n".join([own(), *blocks, *_third_party(run), *_unlisted(run)])


def own() -> str:
    """The suite's own entry."""
    return (
        "% the suite\n@software{bridgebench,\n  author = {{The bridgebench authors}},\n"
        "  title = {bridgebench: Robustness and Interpretability of Image Classifiers, Measured on the Same "
        f"Checkpoints}},\n  version = {{{version('bridgebench')}}},\n}}\n"
    )


def _used(run: Run) -> Iterator[tuple[Reference, str]]:
    records = run.records
    for citation, use in _citations(run):
        with suppress(SourceError):  # told by _unlisted
            yield from ((entry, use) for entry in cited(citation))
    for name in _attributions(run):
        yield from ((entry, f"attribution {name}") for entry in sources("attribution", [name]))
    for kind, column in (("dataset", "dataset"), ("model", "model")):
        for name in dict.fromkeys(records[column]):
            yield from ((entry, f"{kind} {name}") for entry in sources(kind, [name]))
    for what in ("intervals", "tests"):
        yield from ((entry, f"statistics ({what})") for entry in sources("statistics", [what]))
    for name in _packages(run):
        yield from ((entry, f"package {name}") for entry in sources("package", [name]))


def _citations(run: Run) -> Iterator[tuple[str, str]]:
    """What the cards of the run's trainings and metrics cite, and as what they were used."""
    labels, names = (dict.fromkeys(run.records[column]) for column in ("trainer", "metric"))
    found = [("training", trainer_card(label)) for label in labels]
    found += [("metric", cards("metrics").get(name)) for name in names]
    for kind, card in found:
        if card:
            for citation in citations(card.sections.get("Paper", "")):
                yield citation, f"{kind} {card.name}"


def _unlisted(run: Run) -> Iterator[str]:
    """The citations of users' own methods that references.bib has no entry for, as comments."""
    for citation, use in dict.fromkeys(_citations(run)):
        try:
            cited(citation)
        except SourceError:
            yield f"% {use}: {citation} (no entry known)\n"


def trainer_card(label: str) -> Card | None:
    """The card that a training's label was made from: its template begins as the label does, the longest counts."""
    begins = {
        name: card.sections.get("Label", name).partition("{")[0].strip()
        for name, card in cards("trainers").items()
    }
    fitting = [n for n, begin in begins.items() if re.match(rf"{re.escape(begin)}(?!\w)", label)]
    return cards("trainers")[max(fitting, key=lambda name: len(begins[name]))] if fitting else None


def _attributions(run: Run) -> list[str]:
    pairs = run.records[["metric", "params"]].drop_duplicates().itertuples(index=False)
    named = (settings(str(metric), str(params)).get("attribution") for metric, params in pairs)
    return list(dict.fromkeys(str(name).removeprefix("blurred_") for name in named if name))


def _packages(run: Run) -> list[str]:
    """Those that the manifest names, as far as the run has to do with them."""
    invocations = run.manifest.get("invocations")
    last = invocations[-1] if isinstance(invocations, list) and invocations else {}
    versions = last.get("versions") or {}
    used = {
        "robustbench": run.records["model"].str.startswith(PREFIX).any(),
        "pyautoattack": run.records["metric"].eq("auto_attack").any(),
        "scikit-learn": run.records["dataset"].eq("digits").any(),
    }
    return [name for name, number in versions.items() if number and used.get(name, True)]


def _third_party(run: Run) -> Iterator[str]:
    """The papers of RobustBench's models, as far as RobustBench names them."""
    for spec in dict.fromkeys(run.records["model"]):
        paper = str((published(spec) or {}).get("paper", ""))
        if match := re.match(r'"(.+)"(?:, (.*))?, (https?://\S+)$', paper):
            title, venue, url = match.groups()
            name = spec.partition("?")[0].rpartition("/")[2]
            note = f"  note = {{{_texed(venue)}}},\n" if venue else ""
            yield (
                f"% model {name}\n@misc{{{name},\n  title = {{{_texed(title)}}},\n{note}"
                f"  howpublished = {{\\url{{{url}}}}},\n}}\n"
            )


def _texed(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"<[^>]+>", " ", text))
