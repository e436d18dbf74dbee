"""A user's own trainer, as CONTRIBUTING.md shows it: run by its path, and by name from an installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

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


@pytest.fixture
def example() -> str:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def smooth(" in c)
    assert len(code.splitlines()) <= 40
    return code


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
    info = site / "smoothing-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "smoothing.py").write_text(example)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smoothing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.trainers]\nsmooth = smoothing:smooth\n")
    assert "smooth" in bench(work, "list", "trainers", path=site)
    assert "label and spread over all classes" in bench(work, "show", "smooth", path=site)
    (work / "own.toml").write_text(SUITE % "smooth")
    bench(work, "run", "--suite", "own.toml", "--workers", "1", path=site)
    assert rows(work / "results/own") == ["standard", "smooth (share=0.1)", "smooth (share=0.2)"]
    # its paper is none of those that the suite knows
    cite = bench(work, "export", "results/own", "--what", "bibtex", path=site)
    assert "% training smooth: Szegedy et al. 2016" in cite
