"""Kim's toy experiment: its data, its numbers in closed form, and the bands of its angles."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark import toy
from benchmark.toy import SETTINGS, WALK, Outcome, clouds, experiment, points
from metrics import attacks


def led(way: Tensor) -> Outcome:
    """The right cloud led one way, the left one the other way."""
    data = clouds()
    sign = 1.0 - 2.0 * data.y.view(-1, 1, 1, 1)
    return Outcome(SETTINGS[0], nn.Flatten(), data, data.x + sign * way.view(1, 2, 1, 1))


def test_the_clouds_are_the_papers() -> None:
    data = clouds()
    state = np.random.get_state()
    np.random.seed(0)
    drawn = [np.random.multivariate_normal(m, toy.COVARIANCE, 3000) for m in toy.MEANS]
    whole = np.concatenate(drawn)
    scaled = 2 * (whole - whole.min()) / (whole.max() - whole.min()) - 1
    np.random.set_state(state)
    for label in (0, 1):
        ours = points(data.x[data.y == label]).sort(dim=0).values
        theirs = np.sort(scaled[3000 * label : 3000 * label + 3000], axis=0)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert 0.4 < data.y[:100].double().mean() < 0.6, "batches as stored must hold both classes"


@pytest.mark.parametrize("degrees", [-20, 0, 36, 90])
def test_the_angle_is_that_of_the_way_to_the_left_below_the_horizontal(degrees: float) -> None:
    way = torch.tensor([-math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))]) / 4
    assert led(way).angle == pytest.approx(degrees, abs=1e-3)
    values, vectors = np.linalg.eigh(np.array(toy.COVARIANCE))
    cosine = vectors[:, values.argmax()] @ way.numpy() * 4
    assert led(way).along == pytest.approx(cosine**2, abs=1e-4)


def test_where_the_other_cloud_is_the_distance_to_it_is_that_of_its_own_points() -> None:
    data = clouds()
    means = [data.x[data.y == label].mean(0) for label in (0, 1)]
    there = led((means[1] - means[0]).flatten())
    expected = np.sqrt(np.pi / 2)  # mean length of a standard normal vector in the plane
    assert there.mahalanobis == pytest.approx(expected, rel=0.02)
    assert led(torch.tensor([0.0, -0.5])).mahalanobis > 10 * expected


def test_on_a_linear_model_the_attack_goes_straight_down_its_gradient() -> None:
    data = clouds()
    w = torch.tensor([0.8, 0.6])
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).requires_grad_(False)
    model[1].weight.copy_(torch.stack([w, -w]))
    inside = data.x / 4 + 0.375  # far from the border of the square
    attacked = attacks.pgd(model, inside, data.y, replace(WALK, eps=0.2), steps=3, step_size=1.0)
    outcome = Outcome(SETTINGS[0], model, data._replace(x=inside), attacked)
    assert outcome.angle == pytest.approx(math.degrees(math.atan2(0.6, 0.8)), abs=1e-2)


def test_the_angles_fall_into_their_bands() -> None:
    """With 5 steps instead of 40: they bounce on the sphere anyway."""
    outcomes = [experiment(setting, seed=0, steps=5) for setting in SETTINGS]
    for outcome in outcomes:
        low, high = outcome.setting.band
        assert low <= outcome.angle <= high, outcome.setting.name
        assert outcome.accuracy > 0.99
    tilted, weak, strong = outcomes
    assert tilted.along < weak.along < strong.along
    assert tilted.mahalanobis > weak.mahalanobis > strong.mahalanobis


def test_the_command_prints_the_table_and_writes_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toy, "experiment", partial(experiment, steps=1))
    monkeypatch.setattr(toy, "RECIPE", replace(toy.RECIPE, epochs=1))
    toy.main(["--seeds", "3,4", "--out", str(tmp_path / "new")])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| training | seed 3 | seed 4 | mean | paper | band |")
    assert [row.split(" | ")[4] for row in rows] == ["35°", "15°", "2°"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"toy.md", "toy.pdf", "toy.png"}
    assert (tmp_path / "new/toy.pdf").read_bytes().startswith(b"%PDF")
