"""Keys of results: hashes of everything that determines them, the method's own code included."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cards import ROOT
from benchmark.datasets.defaults import defaults
from benchmark.models._code_spec import own_network
from benchmark.plan import Part
from metrics.threat import ThreatModel

if TYPE_CHECKING:
    from torch import Tensor

# the code that makes a result; the harness around it (command line, cards, reports) may change without making it stale
_METHODS = (
    "trainers.",
    "metrics.",
    "benchmark.models.",
    "benchmark.datasets.",
    "benchmark.grading",
    "benchmark.preflight.",
    "benchmark.gradient_masking",
)


def key(*facts: Any) -> str:
    """16 hex digits that stand for these facts (numbers, strings, lists, dictionaries, dataclasses)."""
    text = json.dumps(facts, default=_plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensor(values: Tensor) -> str:
    """16 hex digits that stand for the shape, type and numbers of a tensor."""
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def part_facts(part: Part | None) -> Any:
    """A method's facts: its name, its settings, and the version of its code."""
    return part and [part.card.name, dict(part.settings), code_version(part.card.path)]


def network_facts(architecture: str, dataset: str) -> Any:
    """What an untrained network of an architecture is on a data set, apart from its seed: code and normalisation."""
    facts = defaults(dataset)
    made = code_version(ROOT / "benchmark/measuring/networks.py")
    return [network_code(architecture), made, facts.mean, facts.std]


def network_code(architecture: str) -> list[str]:
    """The version of an architecture's code, or of that of the user's function."""
    if own := own_network(architecture):
        base = code_version(ROOT / "benchmark/models/base.py")
        return [own.function, code_version(own.path.resolve()), base]
    files = (f"benchmark/models/{architecture}.py", "benchmark/models/base.py")
    return [code_version(ROOT / file) for file in files]


def environment(device: str) -> Any:
    """The packages that compute, and the kind of device: other ones may round differently."""
    packages = ("torch", "captum", "pyautoattack")
    return [[version(name).partition("+")[0] for name in packages], device.partition(":")[0]]


def attributes(path: Path) -> set[str]:
    """All names that a source file and its imports use as attributes: `case.refit` shows as "refit"."""
    trees = (ast.parse(_code(file)) for file in _closure(path))
    return {
        node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


@cache
def code_version(path: Path) -> str:
    """A hash of a source file and of all files of ours that it imports, comments and docstrings left out."""
    digest = hashlib.sha256()
    for file in sorted(_closure(path)):
        digest.update(_code(file).encode())
    return digest.hexdigest()[:16]


def _closure(path: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imports(file)
    return found


def _imports(path: Path) -> Iterator[Path]:
    """The source files of methods that a source file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in filter(None, names):
            yield from _found(name, path)


def _found(name: str, importer: Path) -> Iterator[Path]:
    """The files of a module and of its packages: ours, or beside a user's file or in its package."""
    own = any(importer.is_relative_to(ROOT / room) for room in ("benchmark", "trainers", "metrics"))
    if own and not name.startswith(_METHODS):
        return
    roots = [ROOT] if name.startswith(_METHODS) else list(importer.parents)[:3]
    parts = name.split(".")
    for root in roots:
        files = [root.joinpath(*parts).with_suffix(".py")]
        files += [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
        if there := [file for file in files if file.is_file()]:
            yield from there
            return


@cache
def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # a string that stands alone is a docstring or the description of a field
            node.body = [s for s in body if not _is_text(s)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, ThreatModel):
        return [value.norm, value.eps]  # not as it was written
    if isinstance(value, Path):
        return value.as_posix()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a key")
