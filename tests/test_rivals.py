"""What fails in the field's own tools works here: the findings F1 to F6 of a survey that ran them.

F1 AutoAttack's resume always raises; F2 RobustBench's benchmark stops after the attack at the mean of truth values:
here. F3 RobustBench does not import with the AutoAttack that it installs: test_vision.py. F4 torchattacks
writes over RobustBench: test_vision.py, test_third_party.py. F5 figures of AutoAttack depend on the time of day and the
batch: here, and for each of our own attacks test_contracts.py. F6 its flags stay on for later models and it removes
debuggers: here, and test_robustness.py; which wrong models are caught: test_preflight.py.
"""

import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark.datasets.load import load as load_data
from benchmark.grading import grade
from benchmark.measuring import training
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.running.run import run
from benchmark.suite import Suite
from metrics.case import Case
from metrics.randomness import Draws
from metrics.robustness.auto_attack import auto_attack
from metrics.threat import Linf

OWN = """
import torch
from torch import nn

def plain():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.SiLU(), nn.Linear(16, 10))
    return net

class Dynamic(nn.Module):
    '''A defence that takes a gradient step on its input in every forward pass.'''

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            step, = torch.autograd.grad(self.net(inner).logsumexp(1).sum(), inner)
        return self.net(x - 0.01 * step)
"""


@pytest.fixture
def own(tmp_path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def done(folder: Path, *models: str, **settings: object) -> tuple[int, pd.DataFrame]:
    """How many jobs were done now, and the records."""
    suite = Suite(
        name="s", limit=8, train_limit=60, model=list(models), gallery={"images": 0},
        metric=[{"name": "clean_accuracy"}, {"name": "auto_attack", "queries": 20}],
    )  # fmt: skip
    begin = lambda jobs: lambda outcome: None  # noqa: E731
    result = run(plan(suite), Place(folder, None, "cpu"), 1, begin=begin, words="bench run")
    assert result.failed == ()
    return result.computed, pd.read_csv(folder / "records.csv", keep_default_na=False)


def test_f1_a_stopped_evaluation_continues_and_f2_comes_to_a_number(own, tmp_path):
    name = f"python:{own}:plain"
    computed, whole = done(tmp_path / "run", name)
    assert computed == 3
    robust = whole[(whole.metric == "auto_attack") & (whole.measure == "robust_accuracy")]
    assert robust.value.astype(float).between(0, 1).all()
    cells = sorted((tmp_path / "run/store/cells").glob("*.safetensors"))
    assert len(cells) == 2
    for cell in cells:  # whichever was not finished when it was stopped
        before = cell.read_bytes()
        cell.unlink()
        computed, again = done(tmp_path / "run", name)
        assert computed == 1
        pd.testing.assert_frame_equal(again, whole)
        assert len(cell.read_bytes()) == len(before)


def attacked(own: Path, function: str) -> dict[str, torch.Tensor]:
    data = load_data("digits")
    model = training.third_party(f"python:{own}:{function}", data).model.requires_grad_(False)
    x, y = data.test.x[:8], data.test.y[:8]
    y = model(x).argmax(1).detach()  # of all that it gets right
    draws = Draws(0, data.test.ids[:8])
    unused = partial(pytest.fail, "not needed")
    case = Case(
        model=model, x=x, y=y, draws=draws, train_x=x, train_draws=draws, threat=Linf(0.01),
        classes=10, grade=partial(grade, model, x, y, Linf(0.01)),
        refit=unused, manifold=unused, surrogate=unused,
    )  # fmt: skip
    return dict(auto_attack(case, queries=20))


def test_f5_neither_the_time_nor_the_global_generator_changes_a_verdict(own, monkeypatch):
    torch.manual_seed(0)
    first = attacked(own, "plain")
    monkeypatch.setattr(time, "time", lambda: 12345.0)
    torch.manual_seed(1)
    again = attacked(own, "plain")
    assert 0 < first["robust_accuracy"].sum() < 8, "a case in which randomness could show"
    for measure, values in first.items():
        assert torch.equal(values, again[measure]), measure


def test_f6_a_dynamic_model_leaves_no_flag_on_later_ones(own, tmp_path):
    name = f"python:{own}:plain"
    _, alone = done(tmp_path / "alone", name)
    _, after = done(tmp_path / "after", f"python:{own}:Dynamic", name)
    of_plain = after[after.model == name].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_plain, alone)
