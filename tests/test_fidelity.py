"""ROAR and KAR through a stub that retrains nothing: masks, areas and requests against literal versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torch import Tensor, nn

from metrics.case import Case, Refit
from metrics.fidelity import _removal
from metrics.fidelity._removal import area_between
from metrics.fidelity.kar import kar
from metrics.fidelity.roar import roar
from metrics.randomness import Draws

H, W, N, N_TRAIN, CLASSES = 5, 6, 24, 10, 3
PERCENTS = (10, 30, 50, 70, 90)
REMOVED = (0.1, 0.3, 0.5, 0.7, 0.9)
both = pytest.mark.parametrize("metric", [roar, kar])


@dataclass
class Stub:
    """Stands for retraining: keeps what it was asked for; an image counts as right by a rule of its own."""

    right: Callable[[Refit], Tensor]
    asked: list[list[Refit]] = field(default_factory=list)

    def __call__(self, refits: Iterable[Refit]) -> Tensor:
        self.asked.append(list(refits))
        return torch.stack([self.right(refit) for refit in self.asked[-1]])


def arbitrary(refit: Refit) -> Tensor:
    """Depends on image, mask and seed in no simple way."""
    # whole numbers: the last bits of a float differ between machines
    pixels = (100 * refit.test_images.flatten(1)).round().long()
    number = (pixels * torch.arange(1, pixels.shape[1] + 1)).sum(1)
    return (number * (7 + refit.seed) % 97 > 38).float()


@pytest.fixture
def model() -> nn.Sequential:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2 * H * W, CLASSES)).eval()
    with torch.no_grad():
        linear[1].weight.copy_(Draws(0, torch.arange(CLASSES)).normal(2 * H * W))
    return linear.requires_grad_(False)


def case(model: nn.Module, right: Callable[[Refit], Tensor], seed: int = 4) -> tuple[Case, Stub]:
    ids = torch.arange(N + N_TRAIN)
    everything = Draws(0, ids).uniform(2, H, W)
    everything[:, 1] *= 0.5  # channels of different means
    stub = Stub(right)
    return Case(
        model=model, x=everything[:N], y=ids[:N] % CLASSES, draws=Draws(seed, ids[:N]),
        train_x=everything[N:], train_draws=Draws(seed, ids[N:]), threat=None, classes=CLASSES,
        grade=lambda _: {}, refit=stub, manifold=lambda: None,  # type: ignore[arg-type, return-value]
        surrogate=lambda _: model,
    ), stub  # fmt: skip


def literal(c: Case, weight: Tensor, x: Tensor, percent: int, keep: bool) -> Tensor:
    """One image and one pixel at a time: the logit's gradient is the row of the predicted class."""
    mean = [c.train_x[:, channel].mean() for channel in range(2)]
    out = x.clone()
    for n in range(len(x)):
        row = weight[int(c.model(x[n : n + 1]).argmax())].view(2, H, W)
        pixels = [(i, j) for i in range(H) for j in range(W)]
        pixels.sort(key=lambda p: -(abs(row[0][p].item()) + abs(row[1][p].item())))
        count = round(percent / 100 * H * W)
        for i, j in pixels[count:] if keep else pixels[:count]:
            for channel in range(2):
                out[n, channel, i, j] = mean[channel]
    return out


@both
def test_the_images_to_retrain_on_literally(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    c, stub = case(model, arbitrary)
    metric(c, of="logit", retrains=2)
    explained = stub.asked[0]
    keep = metric is kar
    # ordered by the removed fraction: what is kept falls
    for i, percent in enumerate(reversed(PERCENTS) if keep else PERCENTS):
        for refit in explained[2 * i : 2 * i + 2]:
            for got, x in ((refit.train_images, c.train_x), (refit.test_images, c.x)):
                expected = literal(c, model[1].weight, x, percent, keep)
                torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@both
def test_every_percentage_is_retrained_with_every_seed_for_map_and_control(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    c, stub = case(model, arbitrary)
    got = metric(c, percents=(20, 60), retrains=3)
    # the map, and the random, edge and blurred controls
    assert [[refit.seed for refit in asked] for asked in stub.asked] == [[0, 1, 2] * 2] * 4
    assert {value.shape for value in got.values()} == {(3, N)}


@both
def test_exactly_the_asked_pixels_are_set_to_the_training_mean(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    c, stub = case(model, arbitrary)
    metric(c, attribution="gradient", retrains=3)
    mean = c.train_x.mean((0, 2, 3)).view(1, 2, 1, 1)
    assert (mean[0, 0] - mean[0, 1]).abs() > 0.1
    for asked in stub.asked:
        for at, refit in zip(REMOVED, asked[::3], strict=True):
            for got, x in ((refit.train_images, c.train_x), (refit.test_images, c.x)):
                changed = (got != x).any(1)
                count = {round(at * H * W), H * W - round((1 - at) * H * W)}
                assert set(changed.flatten(1).sum(1).tolist()) <= count
                torch.testing.assert_close(
                    got, torch.where(changed[:, None], mean.expand_as(x), x), rtol=0, atol=1e-6
                )


def test_roar_removes_what_kar_keeps(model: nn.Sequential) -> None:
    (c, without), (d, only) = case(model, arbitrary), case(model, arbitrary)
    roar(c, retrains=1)
    kar(d, retrains=1)
    for removed, kept in zip(without.asked[0], reversed(only.asked[0]), strict=True):
        gone = (removed.test_images != c.x).any(1)
        left = (kept.test_images == c.x).all(1)
        assert torch.equal(gone, left)
    for one, other in zip(without.asked[1], only.asked[1], strict=True):  # one control for both
        assert torch.equal(one.test_images, other.test_images)
        assert torch.equal(one.train_images, other.train_images)


@both
def test_all_tied_maps_still_mark_the_asked_number(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    with torch.no_grad():
        model[1].weight.zero_()
    c, stub = case(model, arbitrary)
    metric(c, retrains=1)
    for at, refit in zip(REMOVED, stub.asked[0], strict=True):
        changed = (refit.test_images != c.x).any(1).flatten(1)
        assert changed.sum(1).tolist() == [round(at * H * W)] * N
        assert len(changed.unique(dim=0)) > N / 2  # other pixels for other images


@both
def test_the_score_is_the_area_between_the_mean_curves(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    """Section 3 of Kim, Seo & Jeon on accuracies, with their anchors at 0% and 100% of the pixels."""
    c, stub = case(model, arbitrary)
    got = metric(c, retrains=2)
    full, chance = 0.74, 0.1
    curves = []
    for asked in stub.asked[:2]:
        accuracy = np.array([arbitrary(refit).mean().item() for refit in asked])
        points = accuracy.reshape(5, -1).mean(1)
        curves.append([full, *points, chance])
    difference = np.subtract(*curves)
    score = trapezoid(difference if metric is kar else -difference, [0, *REMOVED, 1])
    assert abs(score) > 1e-3
    # a mean of areas of images is the area of the mean: the trapezoid rule is linear
    assert got["score"].mean().item() == pytest.approx(score, abs=1e-6)


@both
def test_each_images_score_is_the_area_of_its_own_curve_and_the_mean_random_one(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    c, _ = case(model, arbitrary)
    got = metric(c, retrains=2)
    sign = 1 if metric is kar else -1
    for name, curve, refits in (
        ("score", "accuracy", 2),
        ("random_score", "random_accuracy", 3),
        ("edge_score", "edge_accuracy", 3),
        ("blurred_score", "blurred_accuracy", 2),
    ):
        assert got[name].shape == (refits, N)
        for r in range(refits):
            for n in range(N):
                heights = [
                    sign
                    * float(got[f"{curve}@{at}"][r, n] - got[f"random_accuracy@{at}"][:, n].mean())
                    for at in REMOVED
                ]
                expected = trapezoid([0, *heights, 0], [0, *REMOVED, 1])
                assert got[name][r, n].item() == pytest.approx(expected, abs=1e-6)
    assert got["random_score"].mean(0).abs().max() < 1e-6 < got["random_score"].abs().max()


@both
def test_controls_that_all_models_share_are_retrained_three_times_at_least(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    for retrains in (1, 4):
        c, stub = case(model, arbitrary)
        metric(c, percents=(20, 60), retrains=retrains)
        asked = [len(each) // 2 for each in stub.asked]
        # the map, random maps, edges and the map behind a Gaussian
        assert asked == [retrains, max(retrains, 3), max(retrains, 3), retrains]


@both
def test_points_of_the_curves_are_the_refits_at_that_removed_fraction(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    def share(refit: Refit) -> Tensor:
        """How much of each image is left: a known function of the fraction."""
        return (refit.test_images == original).all(1).flatten(1).float().mean(1)

    original = case(model, arbitrary)[0].x
    c, _ = case(model, share)
    got = metric(c, retrains=1, percents=(50, 10, 90), controls=())
    refits = {"accuracy": 1, "random_accuracy": 3}
    assert set(got) == {"score", "random_score"} | {
        f"{name}@{at}" for name in refits for at in (0.1, 0.5, 0.9)
    }
    for at in (0.1, 0.5, 0.9):
        for name, count in refits.items():
            torch.testing.assert_close(got[f"{name}@{at}"], torch.full((count, N), 1 - at))
    torch.testing.assert_close(got["score"], torch.zeros(1, N), rtol=0, atol=1e-6)


@both
def test_a_map_equal_to_the_control_scores_zero(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    def control(model: nn.Module, x: Tensor, draws: Draws, **_: object) -> Tensor:
        maps = torch.zeros_like(x)
        maps[:, 0] = Draws(0, draws.ids).fork("random").uniform(H, W)
        return maps if metric is roar else 1 - maps  # KAR removes what its map marks least

    c, _ = case(model, arbitrary)
    assert metric(c)["score"].mean(0).abs().sum() > 0.1
    monkeypatch.setattr(_removal, "explain", control)
    got = metric(c)
    torch.testing.assert_close(got["score"].mean(0), torch.zeros(N), rtol=0, atol=1e-6)
    assert torch.equal(got["score"], got["random_score"])


@both
def test_good_maps_score_above_and_random_maps_near_zero(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    """A 'classifier' that lives on ten pixels, and a model whose gradient points at them."""
    informative = torch.arange(H * W) % 3 == 0
    with torch.no_grad():
        model[1].weight.mul_(informative.repeat(2).float() * 5 + 0.1)
    original = case(model, arbitrary)[0].x

    def right(refit: Refit) -> Tensor:
        left = (refit.test_images == original).all(1).flatten(1)[:, informative]
        return left.float().mean(1)

    c, _ = case(model, right)
    good, blind = (metric(c, attribution=a, of="logit", retrains=1) for a in ("gradient", "random"))
    assert good["score"].min() > 0
    assert good["score"].mean() > 0.25
    error = blind["score"].std().item() / N**0.5
    assert abs(blind["score"].mean().item()) < 4 * error < 0.11


@both
def test_the_control_is_the_same_for_all_models_and_seeds(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(2 * H * W, CLASSES)).eval()
    (c, one), (d, two) = case(model, arbitrary), case(other, arbitrary, seed=99)
    metric(c, retrains=1)
    metric(d, retrains=1, attribution="gradient_x_input")
    for a, b in zip(one.asked[1], two.asked[1], strict=True):
        assert torch.equal(a.train_images, b.train_images)
        assert torch.equal(a.test_images, b.test_images)
    masks = (one.asked[1][1].test_images != c.x).any(1).flatten(1)
    assert len(masks.unique(dim=0)) == N  # but another one for each image


@both
def test_true_labels_leave_no_trace(
    metric: Callable[..., dict[str, Tensor]], model: nn.Sequential
) -> None:
    (c, one), (d, two) = case(model, arbitrary), case(model, arbitrary)
    metric(c, retrains=1)
    metric(replace(d, y=(d.y + 1) % CLASSES), retrains=1)
    for a, b in zip(one.asked[0], two.asked[0], strict=True):
        assert torch.equal(a.test_images, b.test_images)


def test_area_between_is_the_trapezoid_rule() -> None:
    upper, lower = (Draws(0, torch.arange(5)).fork(name).uniform(2, 3) for name in "ab")
    got = area_between(upper, lower, REMOVED)
    assert got.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            heights = [0, *(upper - lower)[:, i, j].tolist(), 0]
            expected = sum(
                (b - a) * (left + right) / 2
                for a, b, left, right in zip(
                    (0, *REMOVED), (*REMOVED, 1), heights[:-1], heights[1:], strict=True
                )
            )
            assert got[i, j].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("height", [0.3, -1.0])
def test_area_of_a_constant_gap(height: float) -> None:
    gap = torch.full((5, 1), height)
    got = area_between(gap, torch.zeros(5, 1), REMOVED).item()
    assert got == pytest.approx(height * 0.9)  # the curves meet at both ends: half of 0.1 each


@pytest.mark.parametrize("percents", [PERCENTS, (10,), (10, 50, 90)])
def test_half_pixels_are_rounded_as_for_the_fraction_itself(
    percents: tuple[int, ...], model: nn.Sequential
) -> None:
    """15 pixels: a tenth is 1.5, which rounds to 2; 1 - 0.9 is a little less than a tenth."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(30, CLASSES)).eval()
    c, stub = case(linear, lambda refit: torch.zeros(N))
    c = replace(c, x=c.x[:, :, :3, :5], train_x=c.train_x[:, :, :3, :5])
    kar(c, retrains=1, percents=percents)
    kept = [
        (r.test_images == c.x).all(1).flatten(1).sum(1).unique().tolist() for r in stub.asked[0]
    ]
    assert kept == [[round(p / 100 * 15)] for p in reversed(percents)]
