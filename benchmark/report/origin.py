"""Where a run's results come from, in words: the data that was used, and what computed them (manifest.json)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]


def data_used(manifest: Manifest, dataset: str) -> str:
    """How many images of a data set were used, and its note (that a part of it is missing, say); "" if unknown."""
    facts = mapping(mapping(manifest.get("data")).get(dataset))
    numbers = [f"{facts[part]} {noun}" for part, noun in _PARTS.items() if part in facts]
    note = " ".join(str(facts.get("note") or "").split()).rstrip(".")
    used = f"{' and '.join(numbers)} images" if numbers else ""
    return "; ".join(part for part in (used, note) if part)


def class_name(manifest: Manifest, dataset: str, label: int) -> str:
    """A class of a data set in words; its number where the manifest of an earlier version names none."""
    names = mapping(mapping(manifest.get("data")).get(dataset)).get("classes")
    if isinstance(names, list) and 0 <= label < len(names):
        return str(names[label])
    return str(label)


def origin(manifest: Manifest) -> list[str]:
    """Facts about the invocations that computed something; where they differ in one, each is named."""
    computed = [one for one in _invocations(manifest) if one.get("done", 1)]
    if not computed:
        return []
    facts = [f"started: {manifest['started']}"] if manifest.get("started") else []
    for key in ("command", "commit", "machine", "versions"):
        facts += _fact(key, computed)
    if len({str(one.get("definition")) for one in computed}) > 1:
        facts.append("the suite's definition differs between these invocations: see manifest.json")
    return facts


def _invocations(manifest: Manifest) -> list[Manifest]:
    """Every invocation; what it does not say itself, an older manifest says once for all."""
    listed = manifest.get("invocations")
    each = listed if isinstance(listed, list) and listed else [{}]
    return [{**manifest, **mapping(one)} for one in each]


def _fact(key: str, invocations: list[Manifest]) -> list[str]:
    """One line where all agree; where they differ, what they share and then what each has of its own."""
    values = [one.get(key) for one in invocations]
    shared = _shared([mapping(value) for value in values])
    counts: dict[str, int] = {}
    for one, value in zip(invocations, values, strict=True):
        own = {k: v for k, v in mapping(value).items() if k not in shared} if shared else value
        counts[_text(own)] = counts.get(_text(own), 0) + int(one.get("done") or 0)
    lines = [f"{key}: {_text(shared)}"] if shared else []
    if len(counts) == 1:
        return lines + [f"{key}: {text}" for text in counts if text]
    return lines + [f"{key} of {n} jobs: {text or 'unknown'}" for text, n in counts.items()]


def _shared(mappings: Sequence[Manifest]) -> Manifest:
    first, *others = mappings
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact}" for name, fact in value.items() if fact not in ("", None))
    return "" if value is None else str(value)


def mapping(value: object) -> Manifest:
    """A part of a manifest of any version; nothing is taken for granted."""
    return value if isinstance(value, Mapping) else {}


_PARTS = {"train": "training", "test": "test"}
