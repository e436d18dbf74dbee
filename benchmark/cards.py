"""Cards: what can be said of a method without running it, read from its source.

A method is found by its place: every module of `trainers/` and of the family folders of `metrics/` that is not a named
helper holds one public function of the same name. Its card - definition, settings with types and defaults, measures
with directions - is the function's docstring and signature, read with `ast`. So the command line lists, shows and
checks methods without importing torch, and a user's own file is not executed before it is used.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.errors import BenchError

Kind = Literal["trainers", "metrics", "attributions", "datasets", "models"]
KINDS: tuple[Kind, ...] = ("trainers", "metrics", "attributions", "datasets", "models")

ROOT = Path(__file__).parent.parent
_HELPERS = {"base", "recipe", "load", "defaults", "spec", "checkpoint"}
_SECTIONS = (
    "Label", "Threat", "Reconstruction", "Formula", "Measures", "Args", "Cost", "Pitfalls", "Paper",
)  # fmt: skip


class CardError(BenchError):
    """A method, a setting or a value that does not exist; the message says what came and what would be valid."""


@dataclass(frozen=True)
class Parameter:
    """A setting of a method."""

    name: str
    annotation: str
    default: object
    help: str
    type: Any

    def check(self, value: object) -> object:
        """The value as the method takes it; CardError if it does not fit the annotation."""
        adapter: TypeAdapter[object] = TypeAdapter(self.type, config=ConfigDict(strict=True))
        try:
            return adapter.validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            raise CardError(f"{self.name} = {value!r}: {error.errors()[0]['msg']}") from None

    @property
    def takes_list(self) -> bool:
        """Whether one value of this setting is itself a list."""
        return self.annotation.startswith("tuple")


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives for each image; `curve` if it is given at several abscissae."""

    name: str
    direction: Literal["higher", "lower", "none"]
    range: str
    help: str
    curve: bool


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
        """The method itself. This imports it, and torch with it."""
        module = importlib.import_module(self.module) if self.module else _import_file(self.path)
        return getattr(module, self.name)


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """The end of an error message: the likely meaning and the valid names."""
    close = get_close_matches(name, valid, 1, 0.5)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{meant}; valid: {', '.join(sorted(valid)) or 'none'}"


def card(kind: Kind, name: str) -> Card:
    """The card of a method by name, or by the path of a user's file; CardError if there is none."""
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise CardError(f"no such file: {name}")
        return _read(kind, path, family="own" if kind == "metrics" else "", module="")
    known = cards(kind)
    if name not in known:
        raise CardError(f"no {kind.removesuffix('s')} {name!r}{nearest(name, list(known))}")
    return known[name]


@cache
def cards(kind: Kind) -> Mapping[str, Card]:
    """All methods of a kind, by name: ours, then those of installed packages (entry points `bench.trainers`, ...)."""
    if kind == "attributions":
        return _attributions()
    found = {card.name: card for card in _own(kind)}
    for entry in entry_points(group=f"bench.{kind}"):
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
    names = _aliases(ast.parse(path.read_text(encoding="utf-8")))["AttributionName"]
    return {
        name: _read("attributions", path, "", "metrics.attribution", name)
        for name in get_args(names)
    }


def _read(kind: Kind, path: Path, family: str, module: str, name: str = "") -> Card:
    """The card of the function `name` (by default the file's own name) of a source file."""
    name = name or path.stem
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise CardError(f"{path} is not Python: {error}") from None
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if not functions:
        raise CardError(f"{path} must define a function {name!r}, named as the file")
    # what a data set or architecture is stands at the head of its file
    described = tree if kind in ("datasets", "models") else functions[0]
    text = ast.get_docstring(described) or name
    definition, sections = _split(text)
    return Card(
        kind, name, family, path, module,
        summary=definition.partition("\n\n")[0].replace("\n", " "),
        definition=definition,
        sections=sections,
        parameters=tuple(_parameters(functions[0], tree, sections.get("Args", ""))),
        measures=tuple(_measures(sections.get("Measures", ""))),
    )  # fmt: skip


def _split(docstring: str) -> tuple[str, dict[str, str]]:
    """Free text, and the sections that begin with a known word and a colon."""
    heading = re.compile(rf"^({'|'.join(_SECTIONS)}):[ \n]", re.MULTILINE)
    parts = heading.split(docstring + "\n")
    texts = (inspect.cleandoc(" " * 4 + part) if "\n" in part else part for part in parts[2::2])
    return parts[0].strip(), dict(zip(parts[1::2], (text.strip() for text in texts), strict=True))


def _entries(section: str) -> Iterator[tuple[str, str]]:
    """(head, text) of the lines `head: text` of a section; indented lines go on with the text."""
    for match in re.finditer(r"^(\S.*?): (.*(?:\n[ \t]+.*)*)", section, re.MULTILINE):
        yield match[1], re.sub(r"\s+", " ", match[2]).strip()


def _measures(section: str) -> Iterator[Measure]:
    for head, text in _entries(section):
        match = re.fullmatch(r"(\w+)(@?) \((higher|lower|none), (.+)\)", head)
        if match is None:
            raise CardError(f"measure {head!r} must read 'name (higher|lower|none, range)'")
        yield Measure(match[1], match[3], match[4], text, match[2] == "@")  # type: ignore[arg-type]


def _parameters(function: ast.FunctionDef, tree: ast.Module, section: str) -> Iterator[Parameter]:
    helps = dict(_entries(section))
    names = _NAMES | _aliases(ast.parse((ROOT / "metrics/attribution.py").read_text("utf-8")))
    names |= _aliases(tree)
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is None or argument.arg == "on_epoch":
            continue  # what the harness passes; a setting has a default
        annotation = ast.unparse(argument.annotation) if argument.annotation else "object"
        kind = _evaluate(annotation, names)
        yield Parameter(
            argument.arg, _plain(annotation, kind), ast.literal_eval(default),
            helps.get(argument.arg, ""), kind,
        )  # fmt: skip


def _plain(annotation: str, kind: Any) -> str:
    """An annotation as a reader wants it: `Annotated[int, Ge(1)]` -> `int >= 1`, choices by name."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    for word, sign in signs.items():
        annotation = re.sub(rf", {word}\(([^)]*)\)", rf" {sign} \1", annotation)
    return re.sub(r"Annotated\[([^\[\]]*)\]", r"\1", annotation)


_NAMES: dict[str, Any] = {
    "Annotated": Annotated, "Literal": Literal,
    **{word: getattr(annotated_types, word) for word in ("Ge", "Gt", "Le", "Lt")},
    **{kind.__name__: kind for kind in (int, float, bool, str, tuple, object)},
}  # fmt: skip


def _aliases(tree: ast.Module) -> dict[str, Any]:
    """Module-level names for a choice: `Of = Literal["logit", ...]`."""
    return {
        target.id: _evaluate(ast.unparse(node.value), _NAMES)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal[")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _evaluate(annotation: str, names: Mapping[str, Any]) -> Any:
    try:
        return eval(annotation, {"__builtins__": {}}, dict(names))
    except (NameError, TypeError, SyntaxError, AttributeError):
        return Any  # a type of the user's own: the method itself must check it


def _import_file(path: Path) -> ModuleType:
    name = f"bench_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
