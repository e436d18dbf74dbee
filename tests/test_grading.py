"""Grading: an attack counts only if what it made is allowed, and never to the model's advantage."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from benchmark.grading import grade
from metrics.threat import L2, Linf, ThreatModel


class Bright(nn.Module):
    """Class 1 where the mean is above 0.5; an image that is not a number is class 0."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(mean, 0.5), mean], 1)


def flat(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)


# means 0.45 and 0.55: within 0.1 of the boundary, both classified right as 0 and 1
X, Y = flat(0.45, 0.55), torch.tensor([0, 1])
MODEL = Bright()


def robust(adversarial: Tensor, y: Tensor = Y) -> list[float]:
    return grade(MODEL, X, y, Linf(0.1), adversarial)["robust_accuracy"].tolist()


def test_unchanged_images_hold() -> None:
    graded = grade(MODEL, X, Y, Linf(0.1), X)
    assert {name: value.tolist() for name, value in graded.items()} == {
        "robust_accuracy": [1, 1], "perturbation": [0, 0], "invalid": [0, 0],
    }  # fmt: skip


def test_allowed_misclassified_images_break() -> None:
    graded = grade(MODEL, X, Y, Linf(0.1), flat(0.53, 0.55))
    assert graded["robust_accuracy"].tolist() == [0, 1]
    assert graded["perturbation"].tolist() == pytest.approx([0.08, 0], abs=1e-6)
    assert graded["invalid"].tolist() == [0, 0]


@pytest.mark.parametrize("threat", [Linf(0.07), L2(0.14)], ids=str)
def test_images_outside_the_ball_break_nothing(threat: ThreatModel) -> None:
    adversarial = X.clone()
    adversarial[0] += 0.09  # L2 length 0.18
    graded = grade(MODEL, X, Y, threat, adversarial)
    assert MODEL(adversarial).argmax(1).tolist() == [1, 1]
    assert graded["robust_accuracy"].tolist() == [1, 1]
    assert graded["invalid"].tolist() == [1, 0]
    assert graded["perturbation"][0].item() == pytest.approx(
        0.09 if threat.norm == "Linf" else 0.18
    )


def test_one_pixel_outside_the_ball_is_enough() -> None:
    adversarial = flat(0.53, 0.55)
    adversarial[0, 0, 1, 1] = 0.45 + 0.1001
    assert robust(adversarial) == [1, 1]
    adversarial[0, 0, 1, 1] = 0.45 + 0.0999
    assert robust(adversarial) == [0, 1]


def test_rounding_to_float32_is_forgiven() -> None:
    nudged = torch.nextafter(X + 0.1, torch.tensor(2.0))
    assert grade(MODEL, X, Y, Linf(0.1), nudged)["invalid"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("image", "value"),
    [(1, -1e-6), (0, 1.000001), (0, math.nan), (0, math.inf), (1, -math.inf)],
)
def test_one_pixel_outside_the_range_is_enough(image: int, value: float) -> None:
    adversarial = flat(0.9, 0.2)
    adversarial[image, 0, 0, 0] = value
    assert MODEL(adversarial).argmax(1).tolist() == [1, 0]  # both would be broken
    graded = grade(MODEL, X, Y, Linf(2.0), adversarial)
    assert graded["invalid"].tolist() == [1 - image, image]
    assert graded["robust_accuracy"].tolist() == [1 - image, image]


def test_what_the_attack_puts_right_does_not_count() -> None:
    """Misclassified unchanged: the 'attack' that moves it to the right class makes nothing robust."""
    wrong = torch.tensor([1, 0])
    fixed = flat(0.53, 0.48)
    assert (MODEL(fixed).argmax(1) == wrong).all()
    assert robust(fixed, y=wrong) == [0, 0]
    assert robust(flat(0.9, 0.9), y=wrong) == [0, 0]  # nor does an invalid one
    assert robust(X, y=wrong) == [0, 0]


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 4), (2, 3, 2, 2)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"have shape \(.*\), not \(2, 1, 2, 2\)"):
        grade(MODEL, X, Y, Linf(0.1), torch.zeros(shape))


def test_more_images_than_a_batch_keep_their_order() -> None:
    n = 450
    x = torch.linspace(0.3, 0.7, n).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    y = (x.flatten(1).mean(1) > 0.5).long()
    adversarial = x + torch.where(y == 0, 0.1, -0.1).view(-1, 1, 1, 1)
    graded = grade(MODEL, x, y, Linf(0.1), adversarial)
    broken = (x.flatten(1).mean(1) - 0.5).abs() < 0.0999
    safe = (x.flatten(1).mean(1) - 0.5).abs() > 0.1001
    assert (graded["robust_accuracy"][broken] == 0).all()
    assert (graded["robust_accuracy"][safe] == 1).all()


def test_grading_builds_no_graph() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    graded = grade(model, X, Y, Linf(0.1), X)
    assert not any(value.requires_grad for value in graded.values())
