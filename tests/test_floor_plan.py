"""The three floors: imports point down, torch stays out of the torch-free rooms, methods are found by place."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmark", "trainers", "metrics")
# what each floor may import of ours: the middle floor only the vocabulary at the root of the ground floor
VOCABULARY = {
    "metrics.threat",
    "metrics.attacks",
    "metrics.attribution",
    "metrics.case",
    "metrics.randomness",
    "metrics.importance",
    "metrics.edges",
    "metrics.fill",
    "metrics.batching",
}


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports; `from metrics import attacks` is metrics.attacks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in ROOMS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def violations(root: Path) -> list[str]:
    """Imports that point up, or from the middle floor into a family room of the ground floor."""
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for name in imported(path):
                floor = name.partition(".")[0]
                up = floor in ROOMS and ROOMS.index(floor) < ROOMS.index(room)
                sideways = room == "trainers" and floor == "metrics" and name not in VOCABULARY
                if up or sideways:
                    found.append(f"{path.relative_to(root)} imports {name}")
    return found


def test_imports_point_down():
    assert violations(ROOT) == []


def test_no_two_modules_of_the_harness_import_each_other():
    graph = {}
    for path in (ROOT / "benchmark").rglob("*.py"):
        froms = [
            n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)
        ]
        inner = {f"{each.module}.{alias.name}" for each in froms for alias in each.names}
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[module] = {*imported(path), *inner}
    assert [(a, b) for a, own in graph.items() for b in own if a in graph.get(b, ())] == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("metrics/threat.py", "from trainers.base import Step"),
        ("metrics/sharpness/gini.py", "def f():\n    import benchmark.plan"),
        ("trainers/trades.py", "from benchmark import plan"),
        ("trainers/trades.py", "from metrics.sharpness.gini import gini"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, line):
    for room in ROOMS:
        (tmp_path / room).mkdir()
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert len(violations(tmp_path)) == 1


def test_reports_and_the_command_line_load_no_torch():
    for words in (
        ["--help"], ["list", "metrics"], ["list", "attacks", "--json"], ["list", "suites"],
        ["show", "sagr"], ["show", "digits"], ["plan", "--suite", "full"],
    ):  # fmt: skip
        code = (
            "import sys; from benchmark.cli import app\n"
            f"try: app({words!r})\nexcept SystemExit as e: assert not e.code, e.code\n"
            "assert 'torch' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)


def test_files_and_functions_stay_small():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.end_lineno:
                    body = node.end_lineno - node.body[0].lineno
                    assert body <= 60, f"{path.relative_to(ROOT)}: {node.name} has {body} lines"
