"""Certified accuracy: against the exact radius of a plane, the paper literally, the authors' rule on its counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from benchmark.cards import card
from metrics.case import Case, NotApplicable, predict
from metrics.randomness import Draws
from metrics.robustness.certified_accuracy import _lower_bound, certified_accuracy
from metrics.threat import L1, L2, Linf, ThreatModel

N, SIGMA = 40, 0.25
SHAPE = (1, 3, 3)
HALF = L2(0.5)


class Recorded(nn.Module):
    """A model that keeps what it was shown and what it said."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.shown, self.said = model, [], []

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        self.shown.append(x)
        self.said.append(logits.argmax(1))
        return logits


def plane(classes: int = 2) -> nn.Module:
    """A linear model through the middle of [0, 1]^d."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, classes))
    with torch.no_grad():
        model[1].weight.copy_(Draws(4, torch.arange(classes)).normal(9))
        model[1].bias.copy_(-model[1].weight.sum(1) / 2)
    return model


def case(model: nn.Module, threat: ThreatModel = HALF, n: int = N) -> Case:
    """Images around the middle, every eighth with a wrong label."""
    draws = Draws(7, torch.arange(n))
    x = draws.fork("x").uniform(*SHAPE)
    classes = model(x[:1]).shape[1]
    y = predict(model, x)
    y[::8] = (y[::8] + 1) % classes

    def unused(*_: object) -> Tensor:
        raise AssertionError("nothing is attacked, retrained or transferred")

    return Case(
        model=model.eval().requires_grad_(False), x=x, y=y, draws=draws, train_x=x, train_draws=draws,
        threat=threat, classes=classes, grade=unused, refit=unused, manifold=unused, surrogate=unused,
    )  # fmt: skip


def distance(given: Case) -> Tensor:
    """The exact radius of the smoothed plane, which is the plane's own: what is left of it votes for one class."""
    weight = given.model[1].weight[1] - given.model[1].weight[0]
    logits = given.model(given.x)
    return (logits[:, 1] - logits[:, 0]).abs() / weight.norm()


# ---- closed form ----


def test_the_radius_of_a_plane_stays_below_its_distance_and_approaches_it() -> None:
    given = case(plane())
    right = predict(given.model, given.x) == given.y
    exact, gaps = distance(given)[right], []
    for samples in (100, 1000, 10_000):
        radius = certified_accuracy(given, sigma=SIGMA, samples=samples)["radius"][right]
        largest = SIGMA * stats.norm.ppf(0.001 ** (1 / samples))
        assert (radius <= exact).all()
        assert (radius <= largest * (1 + 1e-6)).all()
        gaps.append((exact.clamp_max(largest) - radius)[exact < 2 * SIGMA].max().item())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.04
    far = replace(given, x=0.5 + 9 * (given.x - 0.5))
    assert certified_accuracy(far, sigma=SIGMA)["radius"].max() == pytest.approx(
        SIGMA * stats.norm.ppf(0.001 ** (1 / 1000))
    ), "where all votes agree, the most that can be"


def test_as_many_certificates_are_wrong_as_alpha_says() -> None:
    """One-sided: of images whose radius is exceeded there are a fifth, not a tenth."""
    given = case(plane(), n=400)
    given = replace(given, x=0.5 + 0.3 * (given.x - 0.5))  # where votes differ
    found = certified_accuracy(given, sigma=SIGMA, samples=400, alpha=0.2)
    labelled = predict(given.model, given.x) == given.y
    wrong = (found["radius"] > distance(given))[labelled].float()
    assert 0.14 < wrong.mean() < 0.2 + 2 * (0.16 / len(wrong)) ** 0.5


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_the_bound_holds_but_for_alpha_of_all_samples(alpha: float) -> None:
    """Exactly: all counts that there can be, weighed by their binomial probability."""
    n, counts = 60, np.arange(61)
    bound = _lower_bound(counts, n, alpha)
    assert bound[0] == 0
    assert (np.diff(bound) > 0).all()
    misses = [
        stats.binom.pmf(counts[bound > p], n, p).sum() for p in np.linspace(0.005, 0.995, 199)
    ]
    assert max(misses) <= alpha * (1 + 1e-9)
    # tight: just below a bound, its count and all larger ones are a miss of exactly alpha
    for k in (1, 30, n):
        assert stats.binom.sf(k - 1, n, bound[k]) == pytest.approx(alpha)


def test_the_largest_radii_are_those_of_the_card() -> None:
    found = card("metrics", "certified_accuracy")
    for samples, said in ((1000, "2.46 sigma with 1,000"), (100_000, "3.81 sigma with 100,000")):
        bound = _lower_bound(np.array([samples]), samples, 0.001)[0]
        assert f"{stats.norm.ppf(bound):.2f}" == said.split()[0]
        assert said in found.sections["Pitfalls"]


# ---- the paper literally, and the authors' rule ----


def certify(first: np.ndarray, second: np.ndarray, sigma: float, alpha: float) -> tuple[int, float]:
    """Cohen's rule on the counts of two samples: class (-1: abstains) and radius. The bound is scipy's own interval."""
    winner = int(first.argmax())
    seen, n = int(second[winner]), int(second.sum())
    interval = stats.binomtest(seen, n).proportion_ci(1 - 2 * alpha, method="exact")
    if interval.low < 0.5:
        return -1, 0.0
    return winner, sigma * float(stats.norm.ppf(interval.low))


def test_literally_image_by_image_and_copy_by_copy() -> None:
    given, sigma, eps = case(plane(4), L2(0.1), n=24), 0.3, 0.1
    found = certified_accuracy(given, sigma=sigma, select=15, samples=80, alpha=0.01)
    rows = []
    for i, (image, label) in enumerate(zip(given.x, given.y.tolist(), strict=True)):
        seed = given.draws.fork("certified_accuracy", i).seed
        counts = np.zeros((2, 4), int)
        for copy in range(95):
            noise = Draws(seed, torch.tensor([copy])).normal(*SHAPE)[0]
            said = given.model((image + sigma * noise)[None])[0].argmax().item()
            counts[int(copy >= 15), said] += 1
        winner, radius = certify(*counts, sigma, 0.01)
        right = winner == label
        rows.append([right and radius >= eps, right * radius, right, winner == -1])
    expected = torch.tensor(rows, dtype=torch.float32).T
    for got, column in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(got, column)
    assert 0 < expected[0].sum() < expected[2].sum() < 24
    assert expected[3].sum() > 0


def test_the_authors_rule_says_the_same_of_the_same_votes() -> None:
    """On what the model was heard to say, however the noise was drawn."""
    model = Recorded(plane(3))
    given = case(model, L2(0.3))
    model.said.clear()
    found = certified_accuracy(given, select=50, samples=500)
    votes = torch.cat(model.said).view(N, 550)
    for i, own in enumerate(votes):
        first, second = (np.bincount(part, minlength=3) for part in (own[:50], own[50:]))
        winner, radius = certify(first, second, 0.15, 0.001)
        right = winner == int(given.y[i])
        assert found["smoothed"][i] == right
        assert found["abstained"][i] == (winner == -1)
        assert found["radius"][i] == pytest.approx(radius if right else 0, rel=1e-6)
        assert found["certified"][i] == (right and radius >= 0.3)
    assert 0 < found["certified"].sum() < found["smoothed"].sum() < N


# ---- what is drawn, and what it depends on ----


def test_the_noise_is_normal_of_this_deviation_and_not_cut() -> None:
    model = Recorded(plane())
    given = case(model, L2(1.0), n=3)
    model.shown.clear()
    certified_accuracy(given)
    assert max(map(len, model.shown)) <= 250, "memory does not grow with the samples"
    noise = torch.cat(model.shown).view(3, 1100, *SHAPE) - given.x[:, None]
    assert stats.kstest(noise.flatten(), stats.norm(scale=0.5).cdf).pvalue > 0.01
    assert (torch.cat(model.shown) < 0).any()
    assert noise.flatten(0, 1).flatten(1).unique(dim=0).shape[0] == 3300, "every copy has its own"


def test_a_score_belongs_to_its_image_and_seed_alone() -> None:
    whole = case(plane(3))
    together = certified_accuracy(whole)
    for index in (torch.arange(7), torch.arange(N).flip(0), torch.tensor([11])):
        part = replace(whole, x=whole.x[index], y=whole.y[index], draws=whole.draws[index])
        for name, values in certified_accuracy(part).items():
            assert torch.equal(values, together[name][index]), name
    other = certified_accuracy(replace(whole, draws=Draws(8, whole.draws.ids)))
    assert not torch.equal(other["radius"], together["radius"])


def test_a_larger_ball_certifies_fewer_and_moves_no_radius() -> None:
    given = case(plane(3))
    found = [
        certified_accuracy(replace(given, threat=L2(eps)), sigma=SIGMA)
        for eps in (0.0, 0.1, 0.2, 0.4, 0.8)
    ]
    assert torch.equal(found[0]["certified"], found[0]["smoothed"])
    for one, other in pairwise(found):
        assert (other["certified"] <= one["certified"]).all()
        assert torch.equal(one["radius"], other["radius"])
    assert found[-1]["certified"].sum() == 0, "beyond what 1,000 samples can show"
    assert found[1]["certified"].sum() > found[3]["certified"].sum()


def test_without_sigma_it_is_half_the_radius() -> None:
    given = case(plane(), L2(0.4))
    one, other = certified_accuracy(given), certified_accuracy(given, sigma=0.2)
    assert all(torch.equal(values, other[name]) for name, values in one.items())


# ---- who is not certified ----


class Coin(nn.Module):
    """Two classes told apart by the sign of the noise in one pixel: each has half of the votes."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, :1] - 0.5
        return torch.cat([first, -first], 1)


def test_what_has_half_of_the_votes_is_abstained_from() -> None:
    given = case(Coin())
    found = certified_accuracy(replace(given, x=torch.full_like(given.x, 0.5)))
    assert (found.pop("abstained") == 1).all()
    assert all((values == 0).all() for values in found.values())


def test_a_wrong_class_has_no_radius_however_sure_it_is() -> None:
    given = case(plane())
    given = replace(given, x=0.5 + 3 * (given.x - 0.5))
    found = certified_accuracy(given)
    wrong = torch.arange(N) % 8 == 0
    assert all((found[name][wrong] == 0).all() for name in ("certified", "radius", "smoothed"))
    assert found["abstained"][wrong].mean() < 0.5
    assert found["certified"][~wrong].mean() > 0.5


@pytest.mark.parametrize("threat", [Linf(0.1), L1(2.0)], ids=str)
def test_other_norms_are_not_certified(threat: ThreatModel) -> None:
    with pytest.raises(NotApplicable, match=rf"certifies under L2, .*; this is {threat}"):
        certified_accuracy(case(plane(), threat))
