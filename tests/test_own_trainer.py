"""A user's own trainer, metric and data set, as CONTRIBUTING.md shows them: by path, by place, from a package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.suite import tomllib

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
name = "own"
dataset = "digits"
limit = 20
train_limit = 200
recipe = { epochs = 2 }
gallery = { images = 0 }
trainer = [{ name = "standard" }, { name = "%s", share = [0.1, 0.2] }]
metric = [{ name = "clean_accuracy" }]
"""


def shown(language: str, word: str) -> str:
    """The block of CONTRIBUTING.md that has this word in it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    (block,) = (each for each in blocks if word in each)
    assert len(block.splitlines()) <= 40
    return block


@pytest.fixture
def example() -> str:
    return shown("python", "def smooth(")


def bench(folder: Path, *words: str, path: Path | None = None) -> str:
    """The command line in a process of its own, in `folder`, with `path` on Python's path."""
    code = "import sys; from benchmark.cli import main; sys.argv[0] = 'bench'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, text=True, capture_output=True, check=False,
        env=os.environ | ({"PYTHONPATH": str(path)} if path else {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(folder: Path) -> list[str]:
    records = pd.read_csv(folder / "records.csv")
    return list(records[records["metric"] == "clean_accuracy"]["trainer"])


def scores(folder: Path, metric: str) -> pd.Series[float]:
    records = pd.read_csv(folder / "records.csv")
    found = records[records["metric"] == metric]["value"]
    assert len(found)
    return found


def test_a_network_of_ones_own_is_trained_retrained_and_read_again(tmp_path: Path) -> None:
    code = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, {}))\n"
    (tmp_path / "net.py").write_text(code.format(10))
    text = SUITE.replace("epochs = 2", 'epochs = 2, architecture = "net.py:net"')
    text = text.replace(', { name = "%s", share = [0.1, 0.2] }', "").replace(
        '[{ name = "clean_accuracy" }]',
        '[{ name = "clean_accuracy" }, { name = "roar", percents = [50], controls = [] }]',
    )
    (tmp_path / "own.toml").write_text(text)
    bench(tmp_path, "run", "--suite", "own.toml", "--workers", "1")
    records = pd.read_csv(tmp_path / "results/own/records.csv")
    assert set(records["model"]) == {"net.py:net"}
    assert records.query("measure == 'roar'")["value"].notna().all()
    words = ("--trainer", "standard", "--recipe", "architecture=net.py:net", "--epochs", "1")
    named = bench(tmp_path, "train", *words, "--out", "n.safetensors").strip()
    assert named == "file:n.safetensors@net.py:net"
    again = ("--trainer", "none", "--metric", "clean_accuracy", "--model", named, "--workers", "1")
    bench(tmp_path, "run", "--suite", "own.toml", *again)


def test_a_trainer_runs_by_its_path(tmp_path: Path, example: str) -> None:
    (tmp_path / "smooth.py").write_text(example)
    (tmp_path / "own.toml").write_text(SUITE % "smooth.py")
    bench(tmp_path, "run", "--suite", "own.toml", "--workers", "1")
    assert rows(tmp_path / "results/own") == [
        "standard",
        "smooth (share=0.1)",
        "smooth (share=0.2)",
    ]


def test_a_trainer_runs_by_its_name_from_an_installed_package(tmp_path: Path, example: str) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    package = site / "mypackage"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "smooth.py").write_text(example)
    (package / "likelihood.py").write_text(shown("python", "def likelihood("))
    info = site / "smoothing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smoothing\nVersion: 1.0\n")
    groups = tomllib.loads(shown("toml", "entry-points"))["project"]["entry-points"]
    lines = [
        line
        for group, named in groups.items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    listed = json.loads(bench(work, "list", "metrics", "--json", path=site))
    assert [row["family"] for row in listed if row["name"] == "likelihood"] == ["smoothing"]
    assert "divided by" in bench(work, "show", "likelihood", path=site)
    assert "smooth" in bench(work, "list", "trainers", path=site)
    assert "label and spread over all classes" in bench(work, "show", "smooth", path=site)
    both = '[{ name = "clean_accuracy" }, { name = "likelihood" }]'
    (work / "own.toml").write_text(
        (SUITE % "smooth").replace('[{ name = "clean_accuracy" }]', both)
    )
    bench(work, "run", "--suite", "own.toml", "--workers", "1", path=site)
    assert rows(work / "results/own") == ["standard", "smooth (share=0.1)", "smooth (share=0.2)"]
    assert scores(work / "results/own", "likelihood").between(0, 1).all()
    # its paper is none of those that the suite knows
    cite = bench(work, "export", "results/own", "--what", "bibtex", path=site)
    assert "% training smooth: Szegedy et al. 2016" in cite


def test_a_metric_and_a_data_set_are_found_by_their_place(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for room in ("benchmark", "trainers", "metrics"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "metrics/robustness/likelihood.py").write_text(shown("python", "def likelihood("))
    (tree / "benchmark/datasets/tiles.py").write_text(shown("python", "def tiles("))
    with (tree / "benchmark/datasets/defaults.toml").open("a") as file:
        file.write(f"\n{shown('toml', '[tiles]')}")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 500)
    x = rng.integers(0, 100, (500, 8, 8), dtype=np.uint8)
    for half in (0, 1):  # the brighter half is the class
        x[y == half, :, 4 * half : 4 * half + 4] += 100
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/tiles.npz", x=x, y=y)
    (tmp_path / "own.toml").write_text(
        'name = "own"\ndataset = "tiles"\ngallery = { images = 0 }\n'
        '[[trainer]]\nname = "standard"\n[[metric]]\nname = "clean_accuracy"\n[[metric]]\nname = "likelihood"\n'
    )
    assert 'architecture = "mlp"' in bench(tmp_path, "show", "tiles", path=tree)
    words = ["run", "--suite", "own.toml", "--data", "data", "--workers", "1"]
    bench(tmp_path, *words, path=tree)
    assert scores(tmp_path / "results/own", "clean_accuracy").max() > 0.95
    assert 0.8 < scores(tmp_path / "results/own", "likelihood").iloc[0] < 1
