"""Cards: what can be said of a method without running it, read from its source.

A method is found by its place: every module of `trainers/` and of the family folders of `metrics/` that is not a named
helper holds one public function of the same name. Its card - definition, settings with types and defaults, measures
with directions - is the function's docstring and signature, read with `ast`. So the command line lists, shows and
checks methods without importing torch, and a user's own file is not executed before it is used.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from benchmark.cards.docstrings import CardError, Measure, check_label, entries, measures, split
from benchmark.cards.signatures import Parameter, aliases, check_kind, settings, takes_a_case

Kind = Literal["trainers", "metrics", "attributions", "datasets", "models"]
KINDS: tuple[Kind, ...] = ("trainers", "metrics", "attributions", "datasets", "models")

ROOT = Path(__file__).parents[2]
_INSTALLED: tuple[Kind, ...] = ("trainers", "metrics")
"""Kinds that installed packages add to; networks and pictures of one's own go by their path."""
_HELPERS = {"base", "recipe", "load", "defaults", "spec", "checkpoint", "published"}


@dataclass(frozen=True)
class Card:
    """A method as its source describes it."""

    kind: Kind
    name: str
    family: str
    path: Path
    module: str
    """Import name, empty for a user's file."""
    summary: str
    definition: str
    sections: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    measures: tuple[Measure, ...]

    @property
    def needs_threat(self) -> bool:
        """Whether the method is about a threat model."""
        return "Threat" in self.sections

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms that the method is for; none: all."""
        written = self.sections.get("Threat", "needed")
        return () if written == "needed" else tuple(written.split(", "))

    @property
    def reconstruction(self) -> bool:
        """Whether the method is built from an abstract, not from a published formula."""
        return "Reconstruction" in self.sections

    def parameter(self, name: str) -> Parameter:
        """The setting of this name; CardError if there is none."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        valid = [p.name for p in self.parameters]
        raise CardError(f"{self.name} has no setting {name!r}{nearest(name, valid)}")

    def label(self, settings: Mapping[str, object]) -> str:
        """The method's name in tables, with the settings that its label names."""
        values = {p.name: p.default for p in self.parameters} | dict(settings)
        template = self.sections.get("Label", self.name)
        return template.format(**{k: str(v).replace("_", " ") for k, v in values.items()})

    def load(self) -> Any:
        """The method itself. This imports it, and torch with it; CardError if that fails."""
        try:
            module = importlib.import_module(self.module) if self.module else import_file(self.path)
        except (Exception, SystemExit) as error:  # whatever a file does when it is imported
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise CardError(f"{self.path} cannot be imported: {reason}") from error
        return getattr(module, self.name)


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """The end of an error message: the likely meaning and the valid names."""
    close = get_close_matches(name, valid, 1, 0.5)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{meant}; valid: {', '.join(sorted(valid)) or 'none'}"


def card(kind: Kind, name: str) -> Card:
    """The card of a method by name, or by the path of a user's file; CardError if there is none."""
    if name.endswith(".py"):
        path = _file(name)
        if taken := cards(kind).get(path.stem):
            raise CardError(_same_name(path, taken))
        return _read(kind, path, family="own" if kind == "metrics" else "", module="")
    known = cards(kind)
    if name not in known:
        raise CardError(f"no {kind.removesuffix('s')} {name!r}{_elsewhere(kind, name)}")
    return known[name]


def _elsewhere(kind: Kind, name: str) -> str:
    """The end of the message: a metric in a trainer's place or the reverse, or the nearest names."""
    others: dict[Kind, Kind] = {"trainers": "metrics", "metrics": "trainers"}
    if kind in others and name in cards(others[kind]):
        what = others[kind].removesuffix("s")
        return f": it is a {what}; write it under [[{what}]] or after --{what}"
    return nearest(name, list(cards(kind)))


def own(name: str) -> Card:
    """The card of a user's file: of a metric, which takes nothing but a case, or of a trainer."""
    path = _file(name)
    function = _function(path, _tree(path), path.stem)
    return card("metrics" if takes_a_case(function) else "trainers", name)


def _file(name: str) -> Path:
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise CardError(f"no such file: {name}")
    return path


def _same_name(path: Path, taken: Card) -> str:
    what = taken.kind.removesuffix("s")
    if taken.path == path:
        return f"{path} is the {what} {taken.name!r}; write its name instead of its path"
    return f"{path}: {path.stem!r} is the name of a {what} that exists; rename the file and its function"


@cache
def cards(kind: Kind) -> Mapping[str, Card]:
    """All methods of a kind, by name: ours, then those of installed packages (entry points `bench.trainers`, ...)."""
    if kind == "attributions":
        return _attributions()
    found = {card.name: card for card in _own(kind)}
    for entry in entry_points(group=f"bench.{kind}") if kind in _INSTALLED else ():
        spec = importlib.util.find_spec(entry.module)
        if spec and spec.origin:
            family = entry.dist.name if entry.dist and kind == "metrics" else ""
            found[entry.attr] = _read(kind, Path(spec.origin), family, entry.module, entry.attr)
    return found


def _own(kind: Kind) -> Iterator[Card]:
    folder = ROOT / (f"benchmark/{kind}" if kind in ("datasets", "models") else kind)
    for path in sorted(folder.glob("*/*.py" if kind == "metrics" else "*.py")):
        if path.stem in _HELPERS or path.stem.startswith("_"):
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield _read(kind, path, path.parent.name if kind == "metrics" else "", module)


def _attributions() -> Mapping[str, Card]:
    """The attribution methods, which are short enough to share a file."""
    path = ROOT / "metrics/attribution.py"
    names = get_args(aliases(ast.parse(path.read_text(encoding="utf-8")))["AttributionName"])
    plain = [name for name in names if not name.startswith("blurred_")]
    found = {name: _read("attributions", path, "", "metrics.attribution", name) for name in plain}
    return found | {
        name: _blurred(found[name.removeprefix("blurred_")], name)
        for name in names
        if name not in found
    }


def _blurred(card: Card, name: str) -> Card:
    """The card of a map's blurred version, which is no function of its own."""
    text = f"The absolute map {card.name} behind a Gaussian: a control, for blurring adds no information."
    return replace(card, name=name, summary=text, definition=text)


def _read(kind: Kind, path: Path, family: str, module: str, name: str = "") -> Card:
    """The card of the function `name` (by default the file's own name) of a source file."""
    name, tree = name or path.stem, _tree(path)
    function = _function(path, tree, name)
    check_kind(path, kind, function)
    # what a data set or architecture is stands at the head of its file
    described = tree if kind in ("datasets", "models") else function
    definition, sections = split(ast.get_docstring(described) or name)
    helps = dict(entries(sections.get("Args", "")))
    parameters = tuple(settings(path, kind, function, tree, helps))
    check_label(path, sections.get("Label", name), [p.name for p in parameters])
    return Card(
        kind, name, family, path, module,
        summary=definition.partition("\n\n")[0].replace("\n", " "),
        definition=definition,
        sections=sections,
        parameters=parameters,
        measures=measures(path, name, sections.get("Measures", "")) if kind == "metrics" else (),
    )  # fmt: skip


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:  # not UTF-8, or with NUL bytes
        raise CardError(f"{path} is not Python: {error}") from None


def _function(path: Path, tree: ast.Module, name: str) -> ast.FunctionDef:
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if not functions:
        raise CardError(f"{path} must define a function {name!r}, named as the file")
    return functions[0]


def import_file(path: Path) -> ModuleType:
    """Run a file of the user's as a module."""
    name = f"bench_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:  # helpers beside it; last, so that they hide nothing
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
