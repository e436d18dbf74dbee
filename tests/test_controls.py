"""The controls beside ROAR and KAR, DiffROAR, and what removed pixels become; retraining is a stub."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

import pytest
import torch
from torch import Tensor, nn

from benchmark.cards import card
from metrics.attribution import explain
from metrics.case import Case, Refit
from metrics.edges import sobel
from metrics.fidelity.diff_roar import diff_roar
from metrics.fidelity.kar import kar
from metrics.fidelity.roar import roar
from metrics.fill import filled
from metrics.importance import pixel_map, softened, top
from metrics.randomness import Draws

H, W, N, N_TRAIN, CLASSES = 6, 5, 40, 10, 3
PIXELS = H * W
IDS = torch.arange(N + N_TRAIN)
EVERYTHING = Draws(0, IDS).uniform(2, H, W)
PERCENTS, LEVELS = (10, 30, 50, 70, 90), (5, 10, 20, 40, 60, 80)
every = pytest.mark.parametrize("metric", [roar, kar, diff_roar])
Metric = Callable[..., dict[str, Tensor]]


@dataclass
class Stub:
    """Stands for retraining: keeps what it was asked for; an image counts as right by a rule of its own."""

    right: Callable[[Refit], Tensor]
    asked: list[list[Refit]] = field(default_factory=list)

    def __call__(self, refits: Iterable[Refit]) -> Tensor:
        self.asked.append(list(refits))
        return torch.stack([self.right(refit) for refit in self.asked[-1]])


def left(refit: Refit) -> Tensor:
    """Which pixels of the test images are as they were, (n, pixels)."""
    return (refit.test_images == EVERYTHING[:N]).all(1).flatten(1).float()


INFORMATIVE = (torch.arange(PIXELS) % 3 == 0).float()


def informed(refit: Refit) -> Tensor:
    """A 'classifier' that lives on ten pixels: the share of them that is left."""
    return (left(refit) * INFORMATIVE).sum(1) / INFORMATIVE.sum()


@pytest.fixture
def model() -> nn.Sequential:
    """Its gradient points at the informative pixels."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2 * PIXELS, CLASSES)).eval()
    with torch.no_grad():
        linear[1].weight.copy_(Draws(0, torch.arange(CLASSES)).normal(2 * PIXELS))
        linear[1].weight.mul_(INFORMATIVE.repeat(2) * 5 + 0.1)
    return linear.requires_grad_(False)


def case(
    model: nn.Module, right: Callable[[Refit], Tensor] = informed, seed: int = 4
) -> tuple[Case, Stub]:
    stub = Stub(right)
    return Case(
        model=model, x=EVERYTHING[:N], y=IDS[:N] % CLASSES, draws=Draws(seed, IDS[:N]),
        train_x=EVERYTHING[N:], train_draws=Draws(seed, IDS[N:]), threat=None, classes=CLASSES,
        grade=lambda _: {}, refit=stub, manifold=lambda: None,  # type: ignore[arg-type, return-value]
        surrogate=lambda _: model,
    ), stub  # fmt: skip


def changed(refit: Refit) -> Tensor:
    return (refit.test_images != EVERYTHING[:N]).any(1)


# ---- controls ----


@every
def test_the_edge_control_marks_sobels_edges_and_is_shared(
    metric: Metric, model: nn.Sequential
) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(2 * PIXELS, CLASSES)).eval()
    (c, one), (d, two) = case(model), case(other, seed=9)
    metric(c, retrains=1, controls=("edge",), fill="noise")
    metric(d, retrains=1, controls=("edge",), fill="noise", attribution="gradient_x_input")
    ends = 2 if metric is diff_roar else 1
    for a, b in zip(chain(*one.asked[-ends:]), chain(*two.asked[-ends:]), strict=True):
        assert torch.equal(a.train_images, b.train_images)
        assert torch.equal(a.test_images, b.test_images)
    # the 30% (KAR: 70%) that are marked first have the strongest edges
    first = one.asked[-ends][1 if metric is roar else -2]
    marked = changed(first) if metric is roar else ~changed(first)
    edges = sobel(EVERYTHING[:N])
    for image in range(N):
        strongest, rest = edges[image][marked[image]], edges[image][~marked[image]]
        assert strongest.min() >= rest.max()


@every
def test_the_blurred_control_marks_what_the_blurred_map_does(
    metric: Metric, model: nn.Sequential
) -> None:
    (c, one), (d, two) = case(model), case(model)
    a = metric(c, retrains=1, controls=("blurred",), attribution="gradient_x_input")
    b = metric(d, retrains=1, controls=(), attribution="blurred_gradient_x_input")
    assert (a["score"] != b["score"]).any()
    ends = 2 if metric is diff_roar else 1
    for own, named in zip(chain(*one.asked[-ends:]), chain(*two.asked[:ends]), strict=True):
        assert torch.equal(own.test_images, named.test_images)
    assert torch.equal(a["blurred_score"], b["score"])
    importance = pixel_map(explain(model, c.x, c.draws, attribution="gradient_x_input"))
    expected = top(softened(importance[:, None]).squeeze(1), 0.1, c.draws)
    at = {roar: 0, kar: -1, diff_roar: 1}[metric]  # where a tenth is marked
    marked = changed(one.asked[-ends][at])
    assert torch.equal(marked if metric is roar else ~marked, expected)


@every
def test_controls_that_are_not_asked_for_cost_nothing(metric: Metric, model: nn.Sequential) -> None:
    c, stub = case(model)
    got = metric(c, retrains=1, controls=())
    assert len(stub.asked) == 2
    assert [name for name in got if name.endswith("_score")] == ["random_score"][
        : metric is not diff_roar
    ]
    everything = metric(case(model)[0], retrains=1)
    assert all(torch.equal(values, everything[name]) for name, values in got.items())


@pytest.mark.parametrize("metric", [roar, kar])
def test_the_controls_scores_are_areas_against_the_random_control(
    metric: Metric, model: nn.Sequential
) -> None:
    """The edge control scores what Sobel's map does as an attribution, up to how its ties are broken."""
    flat = replace(case(model)[0], x=EVERYTHING[:N])
    assert (sobel(flat.x).flatten(1).sort(1).values.diff(dim=1) > 0).all(), "no ties here"
    beside = metric(case(model)[0], controls=("edge",))["edge_score"]
    alone = metric(case(model)[0], controls=(), attribution="sobel")["score"]
    torch.testing.assert_close(beside, alone)


def test_the_card_says_that_controls_are_no_quality() -> None:
    for name in ("roar", "kar", "diff_roar"):
        directions = {m.name: m.direction for m in card("metrics", name).measures}
        assert directions.pop("score") == "higher"
        assert set(directions.values()) == {"none"}


# ---- Kim, Seo & Jeon's protocol ----


@pytest.mark.parametrize("name", ["roar", "kar"])
def test_the_defaults_are_kims_protocol(name: str) -> None:
    defaults = {p.name: p.default for p in card("metrics", name).parameters}
    assert defaults["percents"] == (10, 30, 50, 70, 90)
    assert defaults["retrains"] == 3
    assert defaults["fill"] == "mean"
    assert defaults["reduction"] == "sum_abs"


def test_the_published_areas_come_out(model: nn.Sequential) -> None:
    """Their rule, numpy.trapz over [0, .1, .3, .5, .7, .9, 1] with 0.7366 and 0.1 at the ends, on curves of ours."""
    c, stub = case(model)
    got = roar(c, retrains=3, controls=())
    curves = [[informed(refit).mean().item() for refit in asked[::3]] for asked in stub.asked]
    method, random = ([0.7366, *curve, 0.1] for curve in curves)
    at = [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1]
    area = sum(
        (b - a) * ((random[i] - method[i]) + (random[i + 1] - method[i + 1])) / 2
        for i, (a, b) in enumerate(pairwise(at))
    )
    assert got["score"].mean().item() == pytest.approx(area, abs=1e-6)
    assert area > 0.1


# ---- DiffROAR ----


def test_diff_roar_literally(model: nn.Sequential) -> None:
    """One image and one pixel at a time."""
    c, stub = case(model)
    got = diff_roar(c, of="logit", retrains=2, controls=())
    mean = [float(c.train_x[:, channel].mean()) for channel in range(2)]
    accuracies = []
    for end, asked in zip((1, -1), stub.asked, strict=True):
        for i, percent in enumerate(LEVELS):
            for image in range(0, N, 7):
                row = model[1].weight[int(model(c.x[image : image + 1]).argmax())].view(2, PIXELS)
                order = sorted(range(PIXELS), key=lambda p: -end * row[:, p].abs().sum().item())
                kept = order[: round(percent / 100 * PIXELS)]
                for seed in range(2):
                    assert asked[2 * i + seed].seed == seed
                    shown = asked[2 * i + seed].test_images[image].flatten(1)
                    for p in range(PIXELS):
                        before = c.x[image].flatten(1)[:, p].tolist()
                        expected = before if p in kept else mean
                        assert shown[:, p].tolist() == pytest.approx(expected, abs=1e-6)
        accuracies.append(torch.stack([informed(refit) for refit in asked]).view(6, 2, N))
    torch.testing.assert_close(got["score"], (accuracies[0] - accuracies[1]).mean(0))
    for i, percent in enumerate(LEVELS):
        assert torch.equal(got[f"top_accuracy@{percent / 100:g}"], accuracies[0][i])
        assert torch.equal(got[f"bottom_accuracy@{percent / 100:g}"], accuracies[1][i])


def test_diff_roar_of_a_map_that_knows_the_informative_pixels(model: nn.Sequential) -> None:
    """The top third is all there is to know: min(1, 3k) against max(0, (3k - 2))... at every level k."""
    c, _ = case(model)
    got = diff_roar(c, of="logit", retrains=1, controls=())
    levels = [round(k / 100 * PIXELS) / PIXELS for k in LEVELS]
    expected = [min(1, 3 * k) - max(0, 3 * k - 2) for k in levels]
    assert got["score"].mean().item() == pytest.approx(sum(expected) / 6, abs=1e-6)


def test_diff_roar_changes_its_sign_with_the_map(model: nn.Sequential) -> None:
    """Signed importance, so that the other class's map has the opposite order."""
    two = nn.Sequential(nn.Flatten(), nn.Linear(2 * PIXELS, 2)).eval().requires_grad_(False)
    two[1].weight.copy_(torch.stack([model[1].weight[0], -model[1].weight[0]]))
    two[1].bias.copy_(torch.tensor([100.0, 0]))
    other = nn.Sequential(two, nn.Linear(2, 2)).eval().requires_grad_(False)
    other[1].weight.copy_(-torch.eye(2))
    other[1].bias.copy_(torch.tensor([1000.0, 0]))  # predicts the same class for opposite reasons
    one, opposite = (
        diff_roar(case(m)[0], of="logit", reduction="sum", retrains=1, controls=())["score"]
        for m in (two, other)
    )
    assert one.abs().max() > 0.1
    torch.testing.assert_close(one, -opposite)


def test_random_maps_have_a_diff_roar_of_0_in_expectation(model: nn.Sequential) -> None:
    c, _ = case(model)
    blind = diff_roar(c, attribution="random", retrains=1)
    for name in ("score", "random_score"):
        error = blind[name].std().item() / math.sqrt(N)
        assert 0 < error < 0.05
        assert abs(blind[name].mean().item()) < 4 * error
    good = diff_roar(c, retrains=1, controls=())["score"]
    assert good.mean() > 0.3


def test_constant_maps_have_a_diff_roar_of_0() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * PIXELS, CLASSES)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
    c, stub = case(model)
    got = diff_roar(c, retrains=1, controls=())
    assert (got["score"] == 0).all()
    for level, refit in zip(LEVELS, stub.asked[0], strict=True):
        assert set(left(refit).sum(1).tolist()) == {round(level / 100 * PIXELS)}
        assert len(left(refit).unique(dim=0)) > N / 2  # other pixels for other images


def test_the_random_control_of_diff_roar_is_shared(model: nn.Sequential) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(2 * PIXELS, CLASSES)).eval()
    (c, one), (d, two) = case(model), case(other, seed=9)
    a, b = (diff_roar(each, retrains=1, controls=("random",)) for each in (c, d))
    assert torch.equal(a["random_score"], b["random_score"])
    assert not torch.equal(a["score"], b["score"])
    for first, second in zip(one.asked[2], two.asked[2], strict=True):
        assert torch.equal(first.train_images, second.train_images)


# ---- fills and reductions ----


@every
@pytest.mark.parametrize("fill", ["zero", "mean", "noise", "blur", "noisy_linear"])
def test_every_fill_goes_where_the_mean_would(
    metric: Metric, fill: str, model: nn.Sequential
) -> None:
    (c, one), (d, two) = case(model), case(model)
    metric(c, retrains=1, controls=(), fill=fill)
    metric(d, retrains=1, controls=())
    mean = c.train_x.mean((0, 2, 3))
    blind = c.draws if metric is diff_roar else Draws(0, c.draws.ids).fork("random")
    for i, draws in enumerate((c.draws, blind)):
        for refit, plain in zip(one.asked[i], two.asked[i], strict=True):
            expected = filled(c.x, changed(plain), fill, mean=mean, draws=draws)  # type: ignore[arg-type]
            assert torch.equal(refit.test_images, expected)


@every
def test_the_fill_does_not_depend_on_the_other_images(metric: Metric, model: nn.Sequential) -> None:
    (c, one), (d, two) = case(model), case(model, right=lambda refit: torch.ones(7))
    d = replace(d, x=d.x[:7], y=d.y[:7], draws=d.draws[:7])
    metric(c, retrains=1, controls=("blurred",), fill="noisy_linear")
    metric(d, retrains=1, controls=("blurred",), fill="noisy_linear")
    for a, b in zip(one.asked, two.asked, strict=True):
        for whole, part in zip(a, b, strict=True):
            torch.testing.assert_close(whole.test_images[:7], part.test_images)


@every
def test_the_reduction_decides_what_a_pixel_is_worth(metric: Metric, model: nn.Sequential) -> None:
    """Channels that cancel each other are worth nothing by their sum, and most by their sizes."""
    weight = model[1].weight.view(CLASSES, 2, H, W)
    weight[:, :, 0] = torch.tensor([20.0, -20.0]).view(2, 1)
    first = torch.zeros(H, W, dtype=torch.bool)
    first[0] = True
    share = round(100 * W / PIXELS)
    for reduction, expected in (("sum_abs", first), ("l2", first), ("abs_sum", None)):
        c, stub = case(model)
        metric(c, of="logit", retrains=1, percents=(share,), controls=(), reduction=reduction)
        marked = changed(stub.asked[0][0])
        marked = marked if metric is roar else ~marked
        assert marked.sum((1, 2)).tolist() == [W] * N
        if expected is None:
            assert not (marked & first).any()
        else:
            assert (marked == first).all()
