"""The models that installed libraries offer, read from the libraries' source. Nothing of them is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmark.models._architecture import SpecError

_REGISTERED = re.compile(r"^@register_model\b.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


@cache
def library(name: str) -> tuple[str, ...]:
    """The classifiers of timm or torchvision."""
    files = sorted((_folder(name) / "models").glob("*.py"))
    return tuple(m for file in files for m in _REGISTERED.findall(file.read_text(encoding="utf-8")))


@cache
def zoo() -> Mapping[str, tuple[str, ...]]:
    """The models of RobustBench's model zoo: "cifar10/Linf" -> names."""
    folder = _folder("robustbench") / "model_zoo"
    found = {}
    for dataset in ("cifar10", "cifar100", "imagenet"):
        file = folder / f"{dataset}.py"
        if not file.is_file():
            raise SpecError(
                f"the robustbench in {folder.parent} has no model_zoo/{dataset}.py; another package has written over "
                "it (torchattacks does): pip install --force-reinstall --no-deps robustbench"
            )
        tables = dict(_tables(ast.parse(file.read_text(encoding="utf-8"))))
        # the last table says which of the others belongs to which threat model
        for threat, table in tables.pop(f"{dataset.replace('cifar', 'cifar_')}_models", []):
            found[f"{dataset}/{threat}"] = tuple(name for name, _ in tables[table])
    return found


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SpecError(f"{package} is not installed: pip install {package}")
    return Path(spec.submodule_search_locations[0])


def _tables(tree: ast.Module) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """`name = OrderedDict([(key, value), ...])` at the top of a module: name, then keys and values as words."""
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="OrderedDict"), args=[ast.List(elts=entries)]),
            ):
                pairs = [e.elts for e in entries if isinstance(e, ast.Tuple) and len(e.elts) == 2]
                yield name, [(_word(key), _word(value)) for key, value in pairs]


def _word(node: ast.expr) -> str:
    """A text, a name, or the last part of a dotted name; "" for anything else."""
    match node:
        case ast.Constant(value=str(text)) | ast.Name(id=text) | ast.Attribute(attr=text):
            return text
    return ""
