"""Stability: rank statistics against scipy, the attack against its closed form, measures against literal versions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.attribution import Explained, explain
from metrics.case import Case, predict
from metrics.importance import pixel_map
from metrics.maps import Magnitude
from metrics.randomness import Draws
from metrics.ranks import kendall, midranks, spearman
from metrics.stability._agreement import AGREEMENT, agreement, cosine, intersection, top_pixels
from metrics.stability._smooth import Softplus, differentiable_importance
from metrics.stability.attribution_attack import _gradient, attribution_attack
from metrics.stability.local_lipschitz import local_lipschitz
from metrics.stability.noise_stability import noise_stability
from metrics.stability.saliency_consensus import saliency_consensus
from metrics.threat import L2, Linf, ThreatModel

N = 6
IDS = torch.arange(N)
SHAPE = (2, 4, 5)
ALL = [
    pytest.param(partial(attribution_attack, steps=6), id="attribution_attack"),
    noise_stability,
    saliency_consensus,
    local_lipschitz,
]


class Squares(nn.Module):
    """The first logit is sum_i w_i x_i^2 / 2, the others are constant: its gradient is w_i x_i."""

    def __init__(self, weight: Tensor, offset: float = -100.0, classes: int = 2) -> None:
        super().__init__()
        self.weight, self.offset, self.classes = weight, offset, classes

    def forward(self, x: Tensor) -> Tensor:
        z = (self.weight * x.square()).flatten(1).sum(1) / 2
        return torch.stack([z, *[torch.full_like(z, self.offset)] * (self.classes - 1)], 1)


class Network(nn.Module):
    """A network that calls ReLU in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 6, 3, padding=1), nn.Linear(6 * 20, 3)
        self.modules_ = nn.ModuleList([nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1)])
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        plain, in_place, leaky = self.modules_
        ways = [plain, in_place, leaky, F.relu, torch.relu, Tensor.relu]
        parts = [way(z[:, i].clone()) for i, way in enumerate(ways)]
        return self.last(torch.stack(parts, 1).flatten(1))


def literal_network(network: Network, x: Tensor, beta: float) -> Tensor:
    z = network.first(x)
    soft = (1 + (beta * z).exp()).log() / beta
    soft[:, 2] = 0.1 * z[:, 2] + 0.9 * soft[:, 2]
    return network.last(soft.flatten(1))


def case(model: nn.Module, x: Tensor, threat: ThreatModel | None = None, seed: int = 0) -> Case:
    """The images with the labels that the model gives them."""
    model.eval().requires_grad_(False)
    ids = torch.arange(len(x))

    def unused(*_: object) -> Tensor:
        raise AssertionError("a measure of stability needs none of the harness's services")

    return Case(
        model=model, x=x, y=predict(model, x), draws=Draws(seed, ids), train_x=x, train_draws=Draws(seed, ids),
        threat=threat, classes=2, grade=unused, refit=unused, manifold=unused, surrogate=unused,
    )  # fmt: skip


def images(n: int = N, low: float = 0.2, high: float = 0.8) -> Tensor:
    return low + (high - low) * Draws(1, torch.arange(n)).uniform(*SHAPE)


# rank statistics


@pytest.mark.parametrize("levels", [0, 2, 5])
def test_rank_correlations_are_scipys(levels: int) -> None:
    a, b = (Draws(seed, torch.arange(8)).normal(30) for seed in (3, 4))
    b = a + b
    if levels:  # ties
        a, b = (a * levels).round(), (b * levels).round()
    pairs = list(zip(a.double().numpy(), b.double().numpy(), strict=True))
    expected = [stats.spearmanr(one, other).statistic for one, other in pairs]
    assert spearman(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert midranks(a).tolist() == [stats.rankdata(one).tolist() for one, _ in pairs]
    assert kendall(a, b).tolist() == pytest.approx([literal_kendall(*p) for p in pairs], abs=1e-12)


def literal_kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Concordant minus discordant pairs over the geometric mean of those not tied in one and in the other."""
    i, j = np.triu_indices(len(a), 1)
    one, other = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    return float((one * other).sum() / math.sqrt((one != 0).sum() * (other != 0).sum()))


def test_rank_correlations_of_the_same_the_reverse_and_nothing() -> None:
    a = Draws(3, torch.arange(4)).normal(30)
    b = torch.stack([a[0], a[1].exp(), -a[2], torch.full((30,), 2.0)])
    for correlation in (spearman, kendall):
        assert correlation(a, b).tolist() == pytest.approx([1, 1, -1, math.nan], nan_ok=True)
        broken = a.clone()
        broken[1, 3] = torch.nan
        assert correlation(broken, a).isnan().tolist() == [False, True, False, False]
        assert correlation(a, broken).isnan().tolist() == [False, True, False, False]
        one, other = a[:1].expand(1, -1), a[:1]
        assert correlation(one, other).item() == pytest.approx(1)


# agreement of two maps


def test_the_same_map_agrees_and_its_negative_only_in_size() -> None:
    maps = Draws(5, IDS).normal(*SHAPE)
    draws = Draws(0, IDS)
    same, factor, negative = (
        agreement(maps, other, 0.1, draws) for other in (maps, 3 * maps, -maps)
    )
    torch.testing.assert_close(same, torch.ones(N, 4, dtype=torch.float64))
    torch.testing.assert_close(factor, same)
    torch.testing.assert_close(negative, same * torch.tensor([1.0, 1, 1, -1]))


def test_agreement_literally() -> None:
    one, other = (Draws(seed, IDS).normal(*SHAPE) for seed in (5, 6))
    got = agreement(one, one + other, 0.25, Draws(0, IDS))
    for row, a, b in zip(got.tolist(), one.double(), (one + other).double(), strict=True):
        u, v = (m.abs().sum(0).flatten().numpy() for m in (a, b))
        tops = [set(np.argsort(values)[-5:]) for values in (u, v)]  # a quarter of 20 pixels
        expected = [
            len(tops[0] & tops[1]) / 5,
            literal_kendall(u, v),
            stats.spearmanr(u, v).statistic,
            float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())),
        ]
        assert row == pytest.approx(expected, abs=1e-6)


def test_unrelated_maps_agree_by_chance_only() -> None:
    ids = torch.arange(2000)
    one, other = (Draws(seed, ids).normal(*SHAPE) for seed in (5, 6))
    got = agreement(one, other, 0.25, Draws(0, ids))
    error = got.std(0) / 2000**0.5
    assert ((got.mean(0) - torch.tensor([0.25, 0, 0, 0])).abs() < 4 * error).all()


def test_maps_without_an_order_or_that_are_not_numbers() -> None:
    maps = Draws(5, torch.arange(3)).normal(*SHAPE)
    constant, broken = torch.ones_like(maps), maps.clone()
    broken[1, 0, 0, 0] = torch.nan
    draws = Draws(0, torch.arange(3))
    tied = agreement(constant, constant, 0.1, draws)
    assert tied[:, 0].tolist() == [1] * 3  # all-tied maps have the same most important pixels
    assert tied[:, 1:3].isnan().all()
    assert tied[:, 3].tolist() == pytest.approx([1] * 3)
    for pair in ((maps, broken), (broken, maps)):
        assert agreement(*pair, 0.1, draws)[[0, 2]].isfinite().all()
        assert agreement(*pair, 0.1, draws)[1, 1:].isnan().all()
    assert intersection(top_pixels(pixel_map(maps), 0.1, draws), pixel_map(broken), draws)[
        1
    ].isnan()
    assert cosine(maps, torch.zeros_like(maps)).isnan().all()


@pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.01, 1), (0.5, 10)])
def test_the_most_important_pixels_are_at_least_one(share: float, count: int) -> None:
    pixels = top_pixels(pixel_map(images()), share, Draws(0, IDS))
    assert pixels.flatten(1).sum(1).tolist() == [count] * N


# softplus for ReLU


@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_relu_is_softplus_in_whatever_way_it_is_called(beta: float) -> None:
    network, x = Network(), images()
    before = network(x)
    with Softplus(beta):
        soft = network(x)
    torch.testing.assert_close(soft, literal_network(network, x, beta), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(soft, before)
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "statement",
    [
        Tensor.relu_,
        torch.relu_,
        partial(F.relu, inplace=True),
        partial(F.leaky_relu_, negative_slope=0),
    ],
)
def test_relu_is_softplus_where_a_model_overwrites_without_using_the_result(
    statement: Callable[[Tensor], Tensor],
) -> None:
    x = images()
    z = (x - 0.5).requires_grad_()
    with Softplus(3.0):
        overwritten = 2 * z
        statement(overwritten)
    torch.testing.assert_close(overwritten, F.softplus(2 * z, 3.0))
    (slopes,) = torch.autograd.grad(overwritten.sum(), z)
    torch.testing.assert_close(slopes, 2 * (6 * z).sigmoid())


@pytest.mark.parametrize("attribution", ["gradient", "gradient_x_input", "integrated_gradients"])
def test_a_sharp_softplus_gives_the_map_itself(attribution: str) -> None:
    network, x = Network().requires_grad_(False), images()
    target = predict(network, x)
    explained = Explained(network, target)
    if attribution == "integrated_gradients":
        maps = IntegratedGradients(explained).attribute(x, n_steps=10, method="riemann_middle")
    else:
        maps = explain(network, x, Draws(0, IDS), attribution=attribution, target=target)
    got = differentiable_importance(explained, x.requires_grad_(), attribution, 1e7)
    torch.testing.assert_close(got, pixel_map(maps).float(), rtol=1e-3, atol=1e-4)
    assert got.requires_grad


@pytest.mark.parametrize("attribution", ["gradient", "gradient_x_input", "integrated_gradients"])
@pytest.mark.parametrize("reduction", get_args(Magnitude))
def test_the_direction_of_the_attack_by_finite_differences(
    attribution: str, reduction: Magnitude
) -> None:
    network, x = Network().double().requires_grad_(False), images(3).double()
    explained = Explained(network, predict(network, x))
    pixels = torch.zeros(3, 4, 5, dtype=torch.bool)
    pixels[:, 1, 1:3] = pixels[:, 3, 4] = True

    def share(at: Tensor) -> Tensor:
        importance = differentiable_importance(
            explained, at.requires_grad_(), attribution, 3.0, reduction
        )
        return ((importance * pixels).sum((1, 2)) / importance.sum((1, 2))).log().detach()

    got = _gradient(explained, x, pixels, attribution, 3.0, reduction)
    for channel, row, column in ((0, 1, 1), (1, 3, 4), (0, 0, 0)):
        step = torch.zeros_like(x)
        step[:, channel, row, column] = 1e-5
        expected = (share(x + step) - share(x - step)) / 2e-5
        found = got[:, channel, row, column]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


# the measures


def weights(seed: int = 9) -> Tensor:
    return 0.5 + Draws(seed, torch.arange(1)).uniform(*SHAPE)[0]


@pytest.mark.parametrize("metric", ALL)
def test_the_map_of_a_linear_model_is_stable(metric: Callable[..., dict[str, Tensor]]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 3))
    model[1].weight.data = Draws(0, torch.arange(3)).normal(40)
    scores = metric(case(model, images(), Linf(0.1)), of="logit")
    for name, values in scores.items():
        assert values.tolist() == pytest.approx([0 if name == "lipschitz" else 1] * N, abs=1e-6)


def literal_attack(weight: Tensor, x: Tensor, eps: float, steps: int, share: float) -> list[float]:
    """One image; gradient w x > 0, so that the share of T falls fastest as T darkens and all else brightens."""

    def tops(at: Tensor) -> set[int]:
        importance = (weight * at).abs().sum(0).flatten()
        return set(importance.argsort(descending=True)[: round(share * len(importance))].tolist())

    first = tops(x)
    inside = torch.tensor([i in first for i in range(x[0].numel())]).view(x.shape[1:])
    lowest, found = 1.0, x
    for step in range(1, steps + 1):
        delta = (eps * step / 8) * torch.where(inside, -1.0, 1.0)
        moved = (x + delta.clamp(-eps, eps)).clamp(0, 1)
        overlap = len(tops(moved) & first) / len(first)
        if overlap < lowest:
            lowest, found = overlap, moved
    one, other = (weight * x).double(), (weight * found).double()
    u, v = (m.abs().sum(0).flatten().numpy() for m in (one, other))
    cos = float((one * other).sum() / one.norm() / other.norm())
    return [lowest, literal_kendall(u, v), stats.spearmanr(u, v).statistic, cos]


@pytest.mark.parametrize("eps", [0.02, 0.06, 0.15])
def test_the_attack_literally(eps: float) -> None:
    weight, x = weights(), images()
    got = attribution_attack(case(Squares(weight), x, Linf(eps)), of="logit", share=0.25, steps=10)
    assert tuple(got) == AGREEMENT
    expected = [literal_attack(weight, image, eps, 10, 0.25) for image in x]
    torch.testing.assert_close(
        torch.stack(list(got.values()), 1).double(),
        torch.tensor(expected).double(),
        rtol=1e-5,
        atol=1e-5,
    )
    if eps == 0.15:
        assert got["intersection"].mean() < 0.6


def test_the_attack_does_not_count_images_of_another_class() -> None:
    """The other class wins as soon as the pixels that the attack brightens do, however little."""
    x, weight = images(1), weights()
    inside = top_pixels(pixel_map(weight * x), 0.25, Draws(0, IDS[:1]))[0]

    class Guarded(Squares):
        def forward(self, at: Tensor) -> Tensor:
            z = super().forward(at)[:, 0]
            brighter = ((at - x) * ~inside).flatten(1).sum(1)
            return torch.stack([z, z - 0.01 + 100 * brighter], 1)

    loose = attribution_attack(case(Squares(weight), x, Linf(0.15)), of="logit", share=0.25)
    tight = attribution_attack(case(Guarded(weight), x, Linf(0.15)), of="logit", share=0.25)
    assert loose["intersection"].item() < 0.8
    assert [values.item() for values in tight.values()] == pytest.approx([1] * 4)


@pytest.mark.parametrize(
    ("threat", "attribution", "steps"),
    [
        (Linf(0.1), "gradient", 20),
        (L2(0.5), "gradient", 20),
        (Linf(0.1), "gradient_x_input", 20),
        (Linf(0.1), "integrated_gradients", 5),
    ],
)
def test_the_attack_moves_the_map_of_a_relu_network_more_than_noise(
    threat: ThreatModel, attribution: str, steps: int
) -> None:
    c = case(Network(), images(20), threat)
    attacked = attribution_attack(c, attribution=attribution, share=0.2, steps=steps)
    noisy = noise_stability(c, attribution=attribution, share=0.2, samples=1)
    assert attacked["intersection"].mean() < noisy["intersection"].mean() - 0.15


def test_an_attack_without_room_moves_nothing() -> None:
    scores = attribution_attack(case(Network(), images(), Linf(0.0)), steps=2)
    assert all((values > 1 - 1e-5).all() for values in scores.values())


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_noise_stability_literally(threat: ThreatModel) -> None:
    weight, c = weights(), case(Squares(weights()), images(), threat)
    got = noise_stability(c, of="logit", share=0.25, samples=3)
    for i in range(N):
        x, draws = c.x[i : i + 1], c.draws[i : i + 1]
        rows = []
        for sample in range(3):
            noise = threat.noise(x, draws.fork("noise", sample))
            moved = (x + noise).clamp(0, 1)
            assert threat.size(moved - x).item() <= threat.eps * (1 + 1e-5)
            rows.append(agreement(weight * x, weight * moved, 0.25, draws)[0])
        expected = torch.stack(rows).mean(0).tolist()
        assert [got[name][i].item() for name in AGREEMENT] == pytest.approx(expected, abs=1e-5)
    assert (got["intersection"] < 1).any()


def test_saliency_consensus_literally() -> None:
    weight = weights()
    c = case(Squares(weight, offset=1.0), images(), Linf(0.1))
    got = saliency_consensus(c, of="logit", steps=5)["consensus"]
    start = attacks.random_start(c.x, c.needs_threat(), c.draws.fork("start"))
    # class 0 is the label (its logit is above 1): its pixels all darken, by steps of half of eps
    assert (c.y == 0).all()
    delta = start
    for _ in range(5):
        delta = (c.x + (delta - 0.05).clamp(-0.1, 0.1)).clamp(0, 1) - c.x
    a, b = (weight * c.x).double(), (weight * (c.x + delta)).double()
    expected = (a * b).flatten(1).sum(1) / a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert got.max() < 1


def test_saliency_consensus_explains_the_label_at_both() -> None:
    """Where the attack succeeds, the map of the new class would be another one."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 2))
    model[1].weight.data = torch.stack([torch.ones(40), -torch.ones(40)])
    model[1].bias.data = torch.tensor([0.0, 39.9])
    x = torch.full((1, *SHAPE), 0.5)
    c = case(model, x, Linf(0.2))
    assert c.y.item() == 0
    assert predict(model, x - 0.2).item() == 1
    assert saliency_consensus(c, of="logit")["consensus"].item() == pytest.approx(1)


def test_local_lipschitz_literally() -> None:
    weight, c = weights(), case(Squares(weights()), images())
    got = local_lipschitz(c, of="logit", radius=0.05, samples=4)["lipschitz"]
    for i in range(N):
        x, speeds = c.x[i].double(), []
        for sample in range(4):
            u = c.draws[i : i + 1].fork("near", sample).uniform(*SHAPE)[0]
            moved = (x + (2 * u - 1) * 0.05).clamp(0, 1)
            a, b = weight * x, weight * moved
            speeds.append(float((a / a.norm() - b / b.norm()).norm() / (x - moved).norm()))
        assert got[i].item() == pytest.approx(max(speeds), rel=1e-4)


def test_local_lipschitz_knows_no_scale_of_the_logits() -> None:
    x = images()
    one, other = (local_lipschitz(case(Squares(s * weights()), x), of="logit") for s in (1, 1000))
    torch.testing.assert_close(one["lipschitz"], other["lipschitz"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ALL)
def test_misclassified_images_have_no_score(metric: Callable[..., dict[str, Tensor]]) -> None:
    c = case(Squares(weights()), images(), Linf(0.1))
    c.y[2] = 1
    for values in metric(c).values():
        assert values.isnan().nonzero().tolist() == [[2]]
        assert values.dtype == torch.float32


@pytest.mark.parametrize("metric", ALL)
def test_zero_maps_and_maps_that_are_not_numbers(metric: Callable[..., dict[str, Tensor]]) -> None:
    zero = metric(case(Squares(torch.zeros(SHAPE)), images(), Linf(0.1)), of="logit")
    # with no order of the pixels nothing can move; the correlations do not exist
    assert (zero.pop("intersection", torch.ones(N)) == 1).all()
    assert all(values.isnan().all() for values in zero.values())
    broken = images()
    broken[1, 0, 0, 0] = torch.nan
    c = case(Squares(weights()), broken, Linf(0.1))
    c.y[1] = predict(c.model, c.x)[1]
    for values in metric(c, of="logit").values():
        assert values.isnan().nonzero().tolist() == [[1]]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_image_of_any_channels_as_among_others(
    metric: Callable[..., dict[str, Tensor]], channels: int
) -> None:
    x = Draws(1, torch.arange(5)).uniform(channels, 8, 8)
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    whole, alone = (metric(case(model, part, Linf(0.05))) for part in (x, x[:1]))
    for name, values in alone.items():
        assert values.shape == (1,)
        torch.testing.assert_close(values, whole[name][:1], rtol=1e-5, atol=1e-6)
