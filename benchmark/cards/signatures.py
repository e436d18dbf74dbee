"""The settings of a method, read from its signature without running it: names, defaults, types and their checks."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.cards.docstrings import CardError

HARNESS = ("recipe", "threat", "seed", "selection", "on_epoch", "snapshots")
"""What the harness passes to every trainer by name: no settings."""


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
        if self.takes_list and value is not None:
            self._check_list(value)
        adapter: TypeAdapter[object] = TypeAdapter(self.type, config=ConfigDict(strict=True))
        try:
            return adapter.validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            raise CardError(f"{self.name} = {value!r}: {error.errors()[0]['msg']}") from None

    def _check_list(self, value: object) -> None:
        """CardError unless it is a list, and of numbers one with some: names may be none of them (controls = [])."""
        if not isinstance(value, list | tuple):
            raise CardError(f"{self.name} = {value!r}: give a list, as in [{value!r}]")
        if not value and re.search(r"\b(int|float)\b", self.annotation):
            raise CardError(f"{self.name} = []: an empty list; give one number at least")

    @property
    def takes_list(self) -> bool:
        """Whether one value of this setting is itself a list."""
        return self.annotation.startswith("tuple")


def settings(
    path: Path, kind: str, function: ast.FunctionDef, tree: ast.Module, helps: Mapping[str, str]
) -> Iterator[Parameter]:
    """The keyword-only parameters of a method that are not the harness's; `helps` describes them."""
    names = _NAMES | _imported(tree) | aliases(tree)
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        name = argument.arg
        if kind == "trainers" and name in HARNESS:
            _check_is_no_loss(path, function, name)
        elif default is not None:
            annotation = ast.unparse(argument.annotation) if argument.annotation else "object"
            type_ = _evaluate(annotation, names)
            value = _default(path, name, default)
            yield Parameter(name, _plain(annotation, type_), value, helps.get(name, ""), type_)
        elif kind in ("trainers", "metrics"):
            raise CardError(f"{path}: setting {name!r} needs a default, as in {name}: float = 0.5")


def check_kind(path: Path, kind: str, function: ast.FunctionDef) -> None:
    """CardError unless a function can be a method of its kind.

    Refused are settings that are not keyword-only, which the card would not have; a metric in the place of a trainer or
    the reverse; and a loss that nothing lifts into a trainer.
    """
    name = function.name
    if kind in ("trainers", "metrics") and function.args.defaults:
        first = _positional(function)[-len(function.args.defaults)].arg
        raise CardError(
            f"{path}: settings are keyword-only: write `*, ` before {first} in def {name}"
        )
    if kind == "metrics" and _is_lifted(function):
        raise CardError(
            f"{path}: {name} is a trainer; write it under [[trainer]] or after --trainer"
        )
    if kind == "trainers" and takes_a_case(function):
        raise CardError(f"{path}: {name} is a metric; write it under [[metric]] or after --metric")
    whole = function.args.kwarg or "recipe" in [each.arg for each in function.args.kwonlyargs]
    if kind == "trainers" and not (whole or function.decorator_list):
        lift = "from_objective" if len(_positional(function)) == 2 else "from_loss"
        raise CardError(f"{path}: put `@{lift}` (of trainers.base) above `def {name}`")


def takes_a_case(function: ast.FunctionDef) -> bool:
    """Whether a method takes but one thing, as metrics do."""
    return len(_positional(function)) == 1


def _positional(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args]


def _is_lifted(function: ast.FunctionDef) -> bool:
    lifts = ("from_loss", "from_objective")
    return any(ast.unparse(each).endswith(lifts) for each in function.decorator_list)


def _check_is_no_loss(path: Path, function: ast.FunctionDef, name: str) -> None:
    """A trainer of the full form takes what the harness passes; a loss cannot have settings of these names."""
    if _is_lifted(function):
        raise CardError(
            f"{path}: setting {name!r} has a name that the harness itself passes to trainers; rename it "
            "(a loss finds the threat in step.threat, an objective in setup.threat)"
        )


def _default(path: Path, name: str, node: ast.expr) -> object:
    try:
        return _constant(node)
    except (ValueError, TypeError, ArithmeticError):
        raise CardError(
            f"{path}: setting {name!r} = {ast.unparse(node)}: a default must be a constant, "
            "as in 0.5, 8/255, 'word', None or (1, 2)"
        ) from None


def _constant(node: ast.expr) -> Any:
    """The value of a constant, of arithmetic of numbers, or of a tuple of these."""
    if isinstance(node, ast.Tuple):
        return tuple(_constant(each) for each in node.elts)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_number(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_number(node.left), _number(node.right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    raise ValueError(ast.unparse(node))


def _number(node: ast.expr) -> float:
    value = _constant(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"no number: {ast.unparse(node)}")
    return value


_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _plain(annotation: str, kind: Any) -> str:
    """An annotation as a reader wants it: `Annotated[int, Ge(1)]` -> `int >= 1`, choices by name."""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    for word, sign in signs.items():
        annotation = re.sub(rf", {word}\(([^)]*)\)", rf" {sign} \1", annotation)
    return re.sub(r"Annotated\[([^\[\]]*)\]", r"\1", annotation)


_ROOT = Path(__file__).parents[2]
_NAMES: dict[str, Any] = {
    "Annotated": Annotated, "Literal": Literal,
    **{word: getattr(annotated_types, word) for word in ("Ge", "Gt", "Le", "Lt")},
    **{kind.__name__: kind for kind in (int, float, bool, str, tuple, object)},
}  # fmt: skip


def _imported(tree: ast.Module) -> dict[str, Any]:
    """The names for a choice that a file imports from the rooms of the methods: `from metrics.fill import Fill`."""
    rooms = ("metrics", "trainers")
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in rooms:
            for alias in node.names:
                # a name of a module, or a whole module: `from metrics import attacks`
                known = _aliases_of(str(node.module)).get(alias.name)
                whole = _aliases_of(f"{node.module}.{alias.name}")
                if known or whole:
                    found[alias.asname or alias.name] = known or SimpleNamespace(**whole)
    return found


def _aliases_of(module: str) -> dict[str, Any]:
    """The names for a choice that a module of ours defines; none if there is no such file."""
    file = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return aliases(ast.parse(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def aliases(tree: ast.Module) -> dict[str, Any]:
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
