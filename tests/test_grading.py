"""Grading: an attack counts only if what it made is allowed, and never to the model's advantage."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.cards import cards
from benchmark.grading import BATCH, grade
from benchmark.keys import attributes
from benchmark.storage import ledger, verdicts
from metrics.case import Case
from metrics.randomness import Draws
from metrics.robustness._rounds import _SIZES
from metrics.robustness.clean_accuracy import clean_accuracy
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
        "margin": pytest.approx([-0.05, -0.05], abs=1e-6),
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


class Spy(Bright):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[int, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.given.append((len(x), x.dtype))
        logits: Tensor = super().forward(x)
        return logits


@pytest.mark.parametrize("n", [1, 2, 3, 20, 199, 250, 1000])
def test_predicted_again_in_float32_and_in_other_batches_than_the_attacks(n: int) -> None:
    spy, x = Spy(), torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(n))
    grade(spy, x, torch.zeros(n).long(), Linf(0.1), x.double())
    assert {kind for _, kind in spy.given} == {torch.float32}
    assert {size for size, _ in spy.given} == {BATCH}
    assert BATCH not in {256, *_SIZES.values()}


def test_not_even_the_last_bit_depends_on_how_many_images_come_after() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(147, 10)).eval()
    x = torch.rand(250, 3, 7, 7)
    y, moved = torch.arange(250) % 10, (x + 0.01).clamp(0, 1)
    whole = grade(model, x, y, Linf(0.1), moved)
    for n in (1, 2, 7, 40, 95, 97, 128, 249):
        part = grade(model, x[:n], y[:n], Linf(0.1), moved[:n])
        assert all(torch.equal(values, whole[name][:n]) for name, values in part.items()), n


def test_float64_that_leaves_the_range_when_it_is_rounded_is_judged_as_what_is_kept() -> None:
    just_allowed = flat(0.53, 0.55).double()
    just_allowed[0, 0, 0, 0] = -1e-60  # 0 in float32
    assert grade(MODEL, X, Y, Linf(0.5), just_allowed)["invalid"].tolist() == [0, 0]


def test_the_margin_is_that_of_the_attacked_image_against_its_label() -> None:
    graded = grade(MODEL, X, Y, Linf(0.1), flat(0.53, 0.52))
    assert graded["margin"].tolist() == pytest.approx([0.03, -0.02], abs=1e-6)
    assert [m > 0 for m in graded["margin"].tolist()] == [True, False]
    three = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).requires_grad_(False)
    three[1].weight.copy_(torch.tensor([[1.0] * 4, [2.0] * 4, [4.0] * 4]))
    margins = grade(three, X, torch.tensor([2, 1]), Linf(0.1), X)["margin"]
    assert margins.tolist() == pytest.approx([-2 * 4 * 0.45, 2 * 4 * 0.55])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_finite_number_is_no_score(value: float) -> None:
    adversarial = X.clone()
    adversarial[0, 0, 0, 0] = value
    graded = grade(MODEL, X, Y, Linf(0.1), adversarial)
    assert [graded[name].isnan().tolist() for name in ("margin", "perturbation")] == [
        [True, False],
        [True, False],
    ]
    assert graded["robust_accuracy"].tolist() == [1, 1]


GRADED = [
    name
    for name, found in cards("metrics").items()
    if "grade" in attributes(found.path)
    and "robust_accuracy" in {measure.name for measure in found.measures}
]


@pytest.mark.parametrize("name", GRADED)
def test_without_a_radius_an_attack_finds_what_clean_accuracy_finds(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.ReLU(), nn.Linear(16, 4))
    model.eval().requires_grad_(False)
    draws = Draws(0, torch.arange(10))
    x = draws.uniform(1, 5, 5)
    y = model(x).argmax(1)
    y[::3] = (y[::3] + 1) % 4
    nothing = Linf(0.0)
    case = Case(
        model=model, x=x, y=y, draws=draws, train_x=x, train_draws=draws, threat=nothing, classes=4,
        grade=partial(grade, model, x, y, nothing), refit=lambda jobs: x, manifold=unused,
        surrogate=lambda name: model,
    )  # fmt: skip
    card = cards("metrics")[name]
    few = {"queries": 20} if any(p.name == "queries" for p in card.parameters) else {}
    scores = card.load()(case, **few)
    assert scores["robust_accuracy"].tolist() == clean_accuracy(case)["accuracy"].tolist()
    assert scores["invalid"].sum() == 0


def unused() -> Any:
    raise AssertionError


def test_some_metrics_are_graded() -> None:
    assert set(GRADED) >= {"fgsm", "pgd", "auto_attack", "transfer"}


ENTRY = ledger.Entry(
    "digits", "mlp", "standard", "", False, 0, "Linf 0.1", "", "robustness", "", "",
    {}, {}, "f", "t", "e", "q", "m", "i", "k",
)  # fmt: skip
IMAGES = {"ids": np.array([7, 8, 9, 10]), "labels": np.array([0, 1, 0, 1])}


def attack(label: str, robust: list[int], margin: list[float], **facts: Any) -> verdicts.Attack:
    scores = {
        verdicts.CLEAN: np.array([True, True, True, False]),
        "robust_accuracy": np.array(robust, np.float32),
        "perturbation": np.arange(4, dtype=np.float32) + len(label),
        "margin": np.array(margin, np.float32),
    }
    return verdicts.Attack(replace(ENTRY, label=label, **facts), scores, IMAGES)


def test_the_verdict_names_the_first_attack_that_broke_an_image() -> None:
    weak = attack("weak", [1, 0, 1, 0], [-3.0, 2.0, -1.0, 0.5])
    strong = attack("strong", [0, 0, 1, 0], [1.0, 9.0, math.nan, 0.75])
    rows = verdicts.table([weak, strong])
    assert list(rows.columns) == list(verdicts.COLUMNS)
    assert rows["image"].tolist() == [7, 8, 9, 10]
    assert rows["label"].tolist() == [0, 1, 0, 1]
    assert rows["clean_correct"].tolist() == [True, True, True, False]
    assert rows["broken_by"].tolist() == ["strong", "weak", "", ""]
    assert rows["margin"].tolist() == [1.0, 2.0, -1.0, 0.75]
    assert rows["norm"].tolist() == [6, 5, 6, 9]  # strong, weak, weak (the larger margin), strong
    assert verdicts.table([strong, weak])["broken_by"].tolist() == ["strong", "strong", "", ""]


def test_models_and_threats_have_verdicts_of_their_own_and_other_metrics_none() -> None:
    found = [
        attack("a", [0, 1, 1, 0], [1.0, -1, -1, 1]),
        attack("a", [1, 0, 1, 0], [-1.0, 1, -1, 1], threat="Linf 0.2"),
        attack("a", [1, 1, 0, 0], [-1.0, -1, 1, 1], seed=1),
        verdicts.Attack(replace(ENTRY, label="gini"), {"gini": np.ones(4)}, IMAGES),
    ]
    rows = verdicts.table(found)
    assert len(rows) == 12
    broken = rows[rows["broken_by"] == "a"]
    assert list(zip(broken["threat"], broken["seed"], broken["image"], strict=True)) == [
        ("Linf 0.1", 0, 7),
        ("Linf 0.2", 0, 8),
        ("Linf 0.1", 1, 9),
    ]


def test_attacks_of_one_name_are_told_apart_by_their_settings() -> None:
    both = [
        attack("PGD-20", [1, 0, 1, 0], [-1.0, 1, -1, 1]),
        attack("PGD-20", [0, 0, 1, 0], [1.0, 1, -1, 1], params='{"restarts": 5}'),
    ]
    assert verdicts.table(both)["broken_by"].tolist() == [
        'PGD-20 {"restarts": 5}',
        "PGD-20",
        "",
        "",
    ]


def test_without_attacks_the_table_is_empty() -> None:
    assert list(verdicts.table([]).columns) == list(verdicts.COLUMNS)


def test_grading_builds_no_graph() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    graded = grade(model, X, Y, Linf(0.1), X)
    assert not any(value.requires_grad for value in graded.values())
