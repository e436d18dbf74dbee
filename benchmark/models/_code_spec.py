"""Networks that a function of the user's own file makes, as they are named: PATH.py:FUNCTION. No code is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from benchmark.models import _settings
from benchmark.models._architecture import SpecError


@dataclass(frozen=True)
class CodeSpec:
    """A model that a function of the user's file makes."""

    text: str
    path: Path
    function: str


def names_code(architecture: str) -> bool:
    """Whether the name of an architecture is that of a function of the user's: net.py:Net."""
    return ":" in architecture or architecture.endswith(".py")


def own_network(architecture: str) -> CodeSpec | None:
    """The user's function that an architecture names; none if it is one of ours. Raises SpecError."""
    if not names_code(architecture):
        return None
    return code(architecture, architecture, "PATH.py:FUNCTION, as in net.py:Net")


def code(text: str, named: str, form: str) -> CodeSpec:
    """What a specification names by file and function; SpecError, with the `form`, if there is no such function."""
    path, _, function = named.rpartition(":")
    place = Path(path).expanduser()
    if place.suffix != ".py" or not function.isidentifier():
        raise SpecError(f"does not name its file and function; valid: {form}")
    _settings.check_file(place)
    try:
        tree = ast.parse(place.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # not UTF-8, or with NUL bytes
        raise SpecError(f"{path} is not Python: {error}") from None
    _check_function(path, function, tree)
    return CodeSpec(text, place, function)


def _check_function(path: str, name: str, tree: ast.Module) -> None:
    defined = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    if name not in defined:
        known = f"; it defines {', '.join(defined)}" if defined else ""
        raise SpecError(f"{path} defines no function {name!r}{known}")
    node = defined[name]
    if not isinstance(node, ast.FunctionDef):
        return
    needed = len(node.args.posonlyargs) + len(node.args.args) - len(node.args.defaults)
    if needed > 0 or None in node.args.kw_defaults:
        raise SpecError(f"{name}() of {path} needs arguments; it is called without any")
