"""What is published about third-party models: their accuracies, licences and papers, by specification. No torch.

`python -m benchmark.models.published MODEL_INFO SOURCE` rewrites published.toml (beside this file) from the folder
`model_info` of a RobustBench checkout; SOURCE says which checkout that is.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.models import _installed, _weights_folder
from benchmark.models.spec import check_zoo_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_suffix(".toml")
PREFIX = "robustbench:"

# LICENSE of RobustBench: everything is MIT but these (beginning of the name -> licence)
_LICENCES = {
    "Hendrycks2019Using": "Apache-2.0",
    "Pang2020Boosting": "Apache-2.0",
    "Gowal2020Uncovering": "Apache-2.0",
    "Rebuffi2021Fixing": "Apache-2.0",
    "Gowal2021Improving": "Apache-2.0",
    "Ding2020MMA": "CC-BY-NC-SA-4.0",
    "Rony2019Decoupling": "BSD-3-Clause",
}
_TITLES = {
    "clean": "Clean accuracy in %",
    "autoattack": "Accuracy under AutoAttack in %",
    "external": "Lowest accuracy under any attack in %",
    "corruptions": "Accuracy on corrupted images in %",
    "eps": "eps of both",
    "architecture": "Architecture",
    "paper": "Paper",
    "extra_data": "Trained on more data than the training set",
    "unreliable": "AutoAttack's figure is called unreliable there",
    "licence": "Licence of the weights",
    "source": "Source",
    "sha256": "sha256 of the file",
}


def published(spec: str) -> dict[str, Any] | None:
    """What the origin of a model states, none where nothing is known.

    `clean`, `autoattack` and `external` (the lowest under any attack) are accuracies in percent on all test images,
    under `eps` in the specification's norm; each is there only if it was published. `source` says where.
    """
    found = _table().get(spec.removeprefix(PREFIX).partition("?")[0])
    return dict(found) if found and spec.startswith(PREFIX) else None


def describe(spec: str) -> tuple[str, dict[str, Any]]:
    """The card of a RobustBench model, or of a group of them (`robustbench:cifar10/Linf`), as text and as facts.

    SpecError with the nearest names if there is none.
    """
    place = spec.removeprefix(PREFIX).partition("?")[0]
    if place in _installed.zoo():
        found = {
            name: published(f"{PREFIX}{place}/{name}") or {} for name in _installed.zoo()[place]
        }
        return _listing(place, found), {"name": PREFIX + place, "models": found}
    group, _, name = place.rpartition("/")
    check_zoo_name(group, name)
    file = _weights_folder.folder() / group / f"{name}.pt"
    facts = {"name": PREFIX + place, "file": str(file), "there": file.is_file()}
    facts |= published(PREFIX + place) or {}
    if file.is_file():
        facts["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    lines = [
        title if facts[name] is True else f"{title}: {facts[name]}"
        for name, title in _TITLES.items()
        if name in facts
    ]
    missing = "" if file.is_file() else " (not there: BENCH_DOWNLOAD=1 has bench download it)"
    head = f"{PREFIX}{place}: model of RobustBench"
    return "\n".join([head, "", *lines, f"File: {file}{missing}"]), facts


def _listing(group: str, found: dict[str, dict[str, Any]]) -> str:
    """One line a model: its name, its accuracies and its architecture."""
    width = max(map(len, found))
    lines = [
        f"{name:{width}}  {_number(facts, 'clean')}  {_number(facts, 'autoattack')}  {facts.get('architecture', '')}"
        for name, facts in found.items()
    ]
    head = f"{PREFIX}{group}: {len(found)} models of RobustBench"
    return "\n".join([head, "", f"{'':{width}}  clean  AutoAttack", *lines])


def _number(facts: dict[str, Any], name: str) -> str:
    return f"{facts[name]:5.2f}" if name in facts else "     "


@cache
def _table() -> dict[str, dict[str, Any]]:
    """ "cifar10/Linf/Wong2020Fast" -> what is published of it."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    source = tables.pop("source")
    return {
        f"{dataset}/{threat}/{name}": {"licence": "MIT", **facts, "source": source}
        for dataset, threats in tables.items()
        for threat, models in threats.items()
        for name, facts in models.items()
    }


def _written(folder: Path, source: str) -> Iterator[str]:
    """The lines of published.toml."""
    yield "# Accuracies in percent, as RobustBench states them. Made by `python -m benchmark.models.published`."
    yield f"source = {json.dumps(source)}"
    for group in sorted({path.parent for path in folder.glob("*/*/*.json")}):
        yield f"\n[{group.parent.name}.{group.name}]"
        for path in sorted(group.glob("*.json")):
            facts = _facts(path.stem, json.loads(path.read_text(encoding="utf-8")))
            pairs = (
                f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()
            )
            yield f"{_key(path.stem)} = {{ {', '.join(pairs)} }}"


def _facts(name: str, info: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: float(info[theirs])
        for key, theirs in (
            ("clean", "clean_acc"), ("autoattack", "autoattack_acc"),
            ("external", "external"), ("corruptions", "corruptions_acc"),
        )
        if theirs in info
    }  # fmt: skip
    if "autoattack" in found:
        found["eps"] = str(info["eps"])
    found["architecture"] = info["architecture"]
    paper = (f'"{info["name"]}"', info["venue"] if info["venue"] != "N/A" else "", info["link"])
    found["paper"] = ", ".join(part for part in paper if part)
    flags = (("extra_data", "additional_data"), ("unreliable", "unreliable"))
    found |= {key: True for key, theirs in flags if info.get(theirs) is True}
    own = [licence for start, licence in _LICENCES.items() if name.startswith(start)]
    return found | ({"licence": own[0]} if own else {})


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


if __name__ == "__main__":
    FILE.write_text("\n".join(_written(Path(sys.argv[1]), sys.argv[2])) + "\n", encoding="utf-8")
