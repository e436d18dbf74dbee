"""What things are called in a report: rows, headings, file names."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Model = tuple[str, str]
"""(architecture or specification, training): what is one row of a table."""

FAMILIES = (
    *("robustness", "fidelity", "sanity", "manifold", "sharpness", "stability", "localisation"),
    "cost",
)
"""The families in the order of a paper; others follow by name."""

PRETRAINED = "pretrained"
_STEM = 100
"""Characters of a file's name without its ending."""


def row_names(records: pd.DataFrame) -> dict[Model, str]:
    """(model, trainer) -> the row's name, unique, in the order of the records: what the suite calls it (column
    "called"), else what it is."""
    columns = [records[name] for name in ("model", "trainer")]
    keys = list(dict.fromkeys(zip(*columns, strict=True)))
    names = usual_names(keys)
    if "called" in records:
        own = zip(*columns, records["called"], strict=True)
        called = {(model, trainer): name for model, trainer, name in own if name}
        several = Counter((names | called).values())
        # one name for two rows would make them one, be it given to both or the other's usual one
        apart = {key: f" ({names[key]})" * (several[name] > 1) for key, name in called.items()}
        names |= {key: name + apart[key] for key, name in called.items()}
    return {key: _unique(name, key, names) for key, name in names.items()}


def usual_names(keys: Sequence[Model]) -> dict[Model, str]:
    """What rows are called unless the suite says otherwise.

    The trainer alone where all trainings share an architecture; a third-party model goes by its own name, which the
    ending of a file or the spelling of a zoo tells from a training's.
    """
    several = len({model for model, trainer in keys if trainer != PRETRAINED}) > 1
    short = _short_models([model for model, _ in keys])
    names = {}
    for model, trainer in keys:
        own = f"{trainer}, {short[model]}" if several else trainer
        name = short[model] if trainer == PRETRAINED else own
        names[model, trainer] = name or short[model] or "(no name)"
    return {key: _unique(name, key, names) for key, name in names.items()}


def given_names(threats: Mapping[Model, str], names: Mapping[str, str]) -> dict[Model, str]:
    """What a suite's [names] call the rows (row -> the threat it was trained under), where they call them something.

    A row is meant by its usual name, or by that without its threat, so that a name holds on every data set; rows that
    differ by it alone keep it in parentheses.
    """
    usual = usual_names(list(threats))
    bare = {row: _without(name, threats[row]) for row, name in usual.items()}
    several = Counter(bare.values())
    found = {}
    for row, name in usual.items():
        if name in names:
            found[row] = names[name]
        elif bare[row] in names:
            apart = f" ({threats[row]})" if several[bare[row]] > 1 else ""
            found[row] = names[bare[row]] + apart
    return found


def of_no_row(threats: Mapping[Model, str], names: Iterable[str]) -> list[str]:
    """Those of a suite's [names] that mean none of these rows (see `given_names`)."""
    usual = usual_names(list(threats))
    known = {*usual.values(), *(_without(name, threats[row]) for row, name in usual.items())}
    return [name for name in names if name not in known]


def threats_of(records: pd.DataFrame) -> dict[Model, str]:
    """Row -> the threat it was trained under, "" for none."""
    lines = records[["model", "trainer", "train_threat"]].drop_duplicates().itertuples(index=False)
    return {(model, trainer): threat for model, trainer, threat in lines}


def _without(name: str, threat: str) -> str:
    """`pgd_at (Linf 0.3, steps=10)` -> `pgd_at (steps=10)`."""
    return name.replace(f" ({threat})", "").replace(f"({threat}, ", "(") if threat else name


def family_order(families: list[str]) -> list[str]:
    """The families of a table from left to right."""
    known = [family for family in FAMILIES if family in families]
    return known + sorted(set(families) - set(known))


def one_line(text: str, limit: int = 160) -> str:
    """A reason on one line, cut at the end."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def settings_in_words(params: str) -> str:
    """Settings that are not the defaults: '{"loss": "cw", "percents": [30, 70]}' -> "loss=cw, percents=30/70"."""
    return ", ".join(f"{name}={word}" for name, word in in_words(params).items())


def in_words(params: str) -> dict[str, str]:
    """The same, name by name; an empty list is "none"."""
    found: dict[str, object] = json.loads(params) if params else {}
    return {name: in_word(value) for name, value in found.items()}


def in_word(value: object) -> str:
    """The value of a setting as tables show it: [30, 70] -> "30/70"."""
    return ("/".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def clipped(text: str, limit: int) -> str:
    """A name cut in the middle, where names that belong together differ least from each other's ends.

    Whole settings are left out where that is enough: "pgd_at (L2 0.2, steps=10, …, loss=xent)".
    """
    if len(text) <= limit:
        return text
    parts = text.split(", ")
    for left_out in range(1, len(parts) - 1):
        first = (len(parts) - left_out + 1) // 2
        short = ", ".join([*parts[:first], "…", *parts[first + left_out :]])
        if len(short) <= limit:
            return short
    head = (limit - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (limit - 1 - head) :]


def shortened(names: Iterable[str], limit: int) -> dict[str, str]:
    """Every name cut to `limit` characters, or to as many more as it takes for different names to stay different."""
    distinct = list(dict.fromkeys(names))
    while len({clipped(name, limit) for name in distinct}) < len(distinct):
        limit += 8
    return {name: clipped(name, limit) for name in distinct}


def arrow(direction: str) -> str:
    """The sign of the better direction, none where neither is."""
    return {"higher": "↑", "lower": "↓"}.get(direction, "")


def norm_sign(text: str) -> str:
    """Norms as signs: "pgd_at (Linf 0.1)" -> "pgd_at (ℓ∞ 0.1)"."""
    return re.sub(r"\bL(inf|[012])(?= [\d.])", lambda m: "ℓ" + _NORMS[m[1]], text)


def dataset_title(name: str) -> str:
    """A data set in a title: `folder:/home/me/flowers` -> `flowers`, for papers need no path of one machine."""
    path = name.removeprefix("folder:")
    return name if path == name else re.split(r"[/\\]", path.rstrip("/\\"))[-1] or name


def file_stem(*parts: str) -> str:
    """A file name of these parts that every file system takes; a long one is cut, and its end stands for the rest."""
    text = "-".join(parts).lower()
    stem = re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-.") or "unnamed"
    if len(stem) <= _STEM:
        return stem
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{stem[: _STEM - 9].rstrip('-.')}-{digest}"


_NORMS = {"inf": "∞", "0": "₀", "1": "₁", "2": "₂"}


def _short_models(models: list[str]) -> dict[str, str]:
    """Third parties' models without kind, folder, architecture and settings: as much of it as keeps them apart."""
    forms = {
        m: (*(_file_names(m) if m.startswith("file:") else [_last_name(m)]), m) for m in models
    }
    taken = Counter(form for own in forms.values() for form in set(own))
    return {m: next((form for form in own if taken[form] == 1), m) for m, own in forms.items()}


def _file_names(model: str) -> tuple[str, str]:
    """`file:a/b.pt@mlp?mean=0.5` -> `b.pt`, `b.pt@mlp`; the architecture follows the last @ before the query."""
    path, _, rest = model.removeprefix("file:").rpartition("@")
    if not path:
        path, rest = rest, ""
    name = re.split(r"[/\\]", path)[-1]
    return name, f"{name}@{rest.partition('?')[0]}" if rest else name


def _last_name(model: str) -> str:
    """`robustbench:cifar10/Linf/Wong2020Fast?dir=x` -> `Wong2020Fast`; an architecture as it is."""
    return re.split(r"[/\\]", model.partition("?")[0].split(":", 1)[-1])[-1]


def _unique(name: str, key: tuple[str, str], names: dict[tuple[str, str], str]) -> str:
    return name if list(names.values()).count(name) == 1 else f"{name}, {key[0]}"
