"""The suite `zoo`: models of others beside models trained here, on equal images, in one table."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from benchmark import suite as suites
from benchmark.measuring.place import Place
from benchmark.models.base import ModelError
from benchmark.plan import Plan
from benchmark.planner import plan
from benchmark.report.names import row_names
from benchmark.running.run import Result, run
from benchmark.storage import manifest

ROOT = Path(suites.__file__).parent.parent
OWN = "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear({n}, 10))\n"


def small(dataset: str, *models: str, metrics: list[str], limit: int) -> Plan:
    """The suite as the command line changes it, with trainings of a second."""
    chosen = suites.changed(
        suites.read("zoo"), dataset=dataset, models=models, metrics=metrics, limit=limit
    )
    short = {"architecture": "mlp", "epochs": 1}
    return plan(chosen.model_copy(update={"train_limit": 60, "recipe": short}))


def done(made: Plan, folder: Path, data: Path | None = None) -> pd.DataFrame:
    begin = lambda jobs: lambda outcome: None  # noqa: E731
    result = run(made, Place(folder, data, "cpu"), 1, begin=begin, words="bench run --suite zoo")
    assert result.failed == ()
    return pd.read_parquet(folder / "records.parquet")


def test_it_compares_what_the_issue_asks_for():
    made = plan(suites.read("zoo"))
    assert [t.label.partition(" ")[0] for t in made.trainings] == ["standard", "pgd_at", "trades"]
    metrics = {cell.metric.card.name for cell in made.cells}
    assert metrics >= {"clean_accuracy", "pgd", "auto_attack", "masking", "gini", "roar"}
    assert {dict(c.metric.settings)["steps"] for c in made.cells if c.metric.card.name == "pgd"} == {40}  # fmt: skip


def test_models_of_others_and_ours_stand_on_the_same_images(tmp_path):
    (tmp_path / "own.py").write_text(OWN.format(n=64))
    net = nn.Linear(64, 10)
    torch.save({"1.weight": net.weight, "1.bias": net.bias}, tmp_path / "w.pt")
    models = [f"python:{tmp_path}/own.py:build", f"file:{tmp_path}/w.pt@mlp?depth=0"]
    metrics = ["clean_accuracy", "pgd", "gini"]
    records = done(small("digits", *models, metrics=metrics, limit=20), tmp_path / "run")
    measured = records[records.metric.isin(metrics)]
    counts = measured.groupby("model", observed=True).size()
    assert counts[models[0]] == counts[models[1]] > 0
    assert len(measured[measured.trainer != "pretrained"]) == 3 * counts[models[0]]
    samples = pd.read_parquet(tmp_path / "run/samples.parquet")
    clean = samples[(samples.metric == "clean_accuracy") & (samples.measure == "accuracy")]
    images = clean.groupby(["model", "trainer"], observed=True)["image"].apply(frozenset)
    assert len(images) == 5
    assert len(set(images)) == 1
    assert len(images.iloc[0]) == 20
    names = list(row_names(records).values())
    assert names[:2] == ["own.py:build", "w.pt"]
    table = (tmp_path / "run/records.csv").read_text()
    assert "PGD-40" in table


def outcome(made: Plan, folder: Path) -> Result:
    begin = lambda jobs: lambda outcome: None  # noqa: E731
    return run(made, Place(folder, None, "cpu"), 1, begin=begin, words="bench run --suite zoo")


def linear(path: Path) -> str:
    """The specification of a model for the digits."""
    net = nn.Linear(64, 10)
    torch.save({"1.weight": net.weight, "1.bias": net.bias}, path)
    return f"file:{path}@mlp?depth=0"


def test_a_bad_file_fails_alone_and_the_good_ones_are_measured(tmp_path):
    good, bad = linear(tmp_path / "good.pt"), linear(tmp_path / "bad.pt")
    whole = (tmp_path / "bad.pt").read_bytes()
    (tmp_path / "bad.pt").write_bytes(whole[:400])
    made = small("digits", bad, good, metrics=["clean_accuracy"], limit=20)
    result = outcome(made, tmp_path / "run")
    assert result.status(strict=False) == 1
    assert all("bad.pt: is truncated or damaged" in reason for _, reason in result.failed)
    records = pd.read_parquet(tmp_path / "run/records.parquet")
    clean = records[records.metric == "clean_accuracy"].set_index("model")
    assert "is truncated or damaged" in clean.loc[bad, "note"]
    assert pd.isna(clean.loc[bad, "value"])
    assert clean.drop(bad).value.notna().all()
    assert good in clean.index
    assert set(manifest.read(tmp_path / "run")["weights"]) == {good}

    (tmp_path / "bad.pt").write_bytes(whole)
    again = outcome(made, tmp_path / "run")
    assert (again.status(strict=False), again.computed) == (
        0,
        2,
    )  # looked at and measured, it alone
    assert pd.read_parquet(tmp_path / "run/records.parquet").value.notna().all()


def test_where_no_file_can_be_loaded_nothing_is_trained_or_written(tmp_path):
    bad = linear(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_bytes(b"")
    made = small("digits", bad, metrics=["clean_accuracy"], limit=20)
    with pytest.raises(ModelError, match="the file is empty") as caught:
        outcome(made, tmp_path / "run")
    assert caught.value.status == 2
    assert not (tmp_path / "run").exists()


BLIND = """
import torch
from sklearn.datasets import load_digits
from torch import nn


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        data = load_digits()
        x, y = torch.tensor(data.data / 16).float(), torch.tensor(data.target)
        centres = torch.stack([x[y == k].mean(0) for k in range(10)])
        self.net = nn.Linear(64, 10)
        self.net.weight.data, self.net.bias.data = 2 * centres, -centres.square().sum(1)

    def forward(self, x):
        return self.net(x.flatten(1).detach())


def build():
    return Blind()
"""


def test_strict_counts_the_masking_verdict(tmp_path):
    (tmp_path / "blind.py").write_text(BLIND)
    made = small("digits", f"python:{tmp_path}/blind.py:build", metrics=["masking"], limit=40)
    suite = made.suite.model_copy(update={"gallery": suites.Gallery(images=0), "trainer": []})
    result = outcome(plan(suite), tmp_path / "run")
    told = [line for level, line in result.masked if level == "FAIL"]
    assert any(
        "blind.py:build, Linf 0.1: zero-gradient: 100.0% of 40 images" in line for line in told
    )
    passed_before = replace(result, unfit=())  # preflight sees this one as well
    assert passed_before.status(strict=True) == 3
    assert passed_before.status(strict=False) == 0
    warned = replace(passed_before, masked=(("WARN", "too few"),))
    assert warned.status(strict=True) == 0


def test_a_real_checkpoint_beside_models_trained_here(shared_data, tmp_path):
    folder = "Verified-Intelligence-alpha-beta-CROWN"
    file = f"file:{shared_data}/checkpoints/{folder}/mnist_cnn_a_adv.model@small_cnn"
    made = small("mnist", file, metrics=["clean_accuracy"], limit=300)
    records = done(made, tmp_path / "run", shared_data / "datasets")
    clean = records[(records.metric == "clean_accuracy") & records.headline].set_index("trainer")
    assert clean.loc["pretrained", "value"] == pytest.approx(0.96, abs=0.03)
    assert set(clean.n) == {300}


def test_the_command_of_the_issue_is_planned(shared_data):
    file = f"file:{shared_data}/checkpoints/locuslab-fast_adversarial/fgsm.pth@small_cnn"
    words = ["plan", "--json", "--suite", "zoo", "--dataset", "mnist", "--model", file]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert (facts["models"], facts["trainings"]) == (4, 3)
