"""Localisation: closed forms, ties, scikit-learn, mosaics by hand, and the truth of `planted`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.datasets import planted
from benchmark.datasets._strokes import strokes
from benchmark.datasets.base import Dataset, Split
from benchmark.datasets.load import load
from benchmark.measuring import measure, services
from benchmark.measuring.measure import used
from benchmark.measuring.place import Place
from benchmark.models.digits_cnn import digits_cnn
from benchmark.plan import Cell, DataSpec, Part
from metrics.attribution import Explained
from metrics.case import Case, NotApplicable, predict
from metrics.localisation.grid_pointing_game import _mosaic, _partners, grid_pointing_game
from metrics.localisation.localisation_auc import localisation_auc
from metrics.localisation.pointing_game import _hit, pointing_game
from metrics.localisation.relevance_mass import _mass, relevance_mass
from metrics.localisation.relevance_rank import _rank_accuracy, relevance_rank
from metrics.randomness import Draws
from metrics.ranks import average_precision, roc_auc

H, W = 4, 6
MASKED = [pointing_game, relevance_mass, relevance_rank, localisation_auc]
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hit": _hit, "mass": _mass, "rank": _rank_accuracy, "auc": roc_auc,
}  # fmt: skip


def case(model: nn.Module, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Case:
    """The images with the labels that the model gives them, unless others are given; they train it as well."""
    model.eval().requires_grad_(False)
    y, ids = predict(model, x) if y is None else y, torch.arange(len(x))

    def unused(*_: object) -> Tensor:
        raise AssertionError("localisation needs no other service than the masks")

    return Case(
        model=model, x=x, y=y, draws=Draws(0, ids), train_x=x, train_draws=Draws(0, ids), threat=None,
        classes=int(y.max()) + 1, grade=unused, refit=unused, manifold=unused, surrogate=unused,
        mask=lambda: mask, train_y=y,
    )  # fmt: skip


class Maps(nn.Module):
    """A model whose gradient at the images x is the maps: half the weighted sum of squares."""

    def __init__(self, maps: Tensor, x: Tensor) -> None:
        super().__init__()
        self.weight = maps / x

    def forward(self, x: Tensor) -> Tensor:
        z = (self.weight[: len(x)] * x.square()).flatten(1).sum(1) / 2
        return torch.stack([z + 100, torch.zeros_like(z)], 1)


def scores_of(
    metric: Callable[..., dict[str, Tensor]], maps: Tensor, mask: Tensor, **settings: object
) -> dict[str, Tensor]:
    x = 0.3 + 0.5 * Draws(3, torch.arange(len(maps))).uniform(*maps.shape[1:])
    return metric(case(Maps(maps, x), x, mask=mask), of="logit", **settings)


# rank statistics against scikit-learn


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_auc_and_average_precision_are_scikit_learns(levels: int) -> None:
    scores = Draws(1, torch.arange(10)).normal(40).abs()
    scores = (scores * levels).round() if levels else scores
    positive = Draws(2, torch.arange(10)).uniform(40) < 0.3
    pairs = list(zip(positive.numpy(), scores.numpy(), strict=True))
    expected = [roc_auc_score(m, a) for m, a in pairs]
    assert roc_auc(scores, positive).tolist() == pytest.approx(expected, abs=1e-9)
    expected = [average_precision_score(m, a) for m, a in pairs]
    assert average_precision(scores, positive).tolist() == pytest.approx(expected, abs=1e-9)


def test_auc_is_a_chance_over_pairs() -> None:
    scores = (Draws(1, torch.arange(3)).normal(20).abs() * 3).round()
    positive = Draws(2, torch.arange(3)).uniform(20) < 0.4
    for i in range(3):
        pairs = [(a, b) for a in scores[i][positive[i]] for b in scores[i][~positive[i]]]
        expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
        assert roc_auc(scores, positive)[i].item() == pytest.approx(expected)


# closed forms


def mask_of(*pixels: int, size: int = 8) -> Tensor:
    mask = torch.zeros(1, size, dtype=torch.bool)
    mask[0, list(pixels)] = True
    return mask


@pytest.mark.parametrize("name", MEASURES)
def test_maps_inside_outside_and_everywhere(name: str) -> None:
    mask = mask_of(1, 4, 5)
    measure, inside = MEASURES[name], mask.double() * torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8])
    assert measure(inside, mask).item() == 1
    outside = (~mask).double() * torch.arange(1.0, 9)
    assert measure(outside, mask).item() == 0
    chance = 0.5 if name == "auc" else 3 / 8
    for constant in (0.0, 0.1, 5.0):
        assert measure(torch.full((1, 8), constant), mask).item() == pytest.approx(chance)


def test_ties_are_shared() -> None:
    a = torch.tensor([[3.0, 3, 1, 1, 1, 0, 0, 0]])
    assert _hit(a, mask_of(0, 6)).item() == 0.5
    assert _mass(a, mask_of(0, 2)).item() == pytest.approx(4 / 9)
    # the two highest, and one of the three that share the next place, one of which is masked
    assert _rank_accuracy(a, mask_of(0, 2, 7)).item() == pytest.approx((1 + 1 / 3) / 3)


def test_rank_accuracy_is_the_mean_over_all_ways_to_break_ties() -> None:
    a, mask = torch.tensor([[2.0, 1, 1, 1, 0, 2]]), mask_of(0, 1, 2, 4, size=6)
    found = []
    for order in permutations(range(6)):
        ranked = sorted(order, key=lambda i: -a[0, i].item())  # stable: the order decides ties
        found.append(len({0, 1, 2, 4} & set(ranked[:4])) / 4)
    assert _rank_accuracy(a, mask).item() == pytest.approx(np.mean(found))


@pytest.mark.parametrize("name", MEASURES)
def test_random_maps_score_chance(name: str) -> None:
    ids = torch.arange(4000)
    maps, mask = Draws(1, ids).normal(30).abs(), Draws(2, ids).uniform(30) < 0.3
    got = MEASURES[name](maps, mask)
    chance = 0.5 if name == "auc" else 0.3
    known = got[mask.any(1)]
    assert abs(known.mean().item() - chance) < 4 * known.std().item() / 4000**0.5 < 0.04


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("place", [0, 3])
def test_a_map_that_is_not_a_number_has_no_score(name: str, place: int) -> None:
    maps = torch.arange(16.0).view(2, 8)
    maps[0, place] = torch.nan
    got = MEASURES[name](maps, mask_of(0, 3, 4).expand(2, -1))
    assert got.isnan().tolist() == [True, False]


# the metrics


@pytest.mark.parametrize("metric", MASKED)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_metric_measures_the_predicted_classs_map(
    metric: Callable[..., dict[str, Tensor]], channels: int
) -> None:
    maps = Draws(1, torch.arange(5)).normal(channels, H, W)
    mask = Draws(2, torch.arange(5)).uniform(H, W) < 0.3
    got = scores_of(metric, maps, mask)
    headline = next(iter(got))
    measure = MEASURES[{"rank_accuracy": "rank"}.get(headline, headline)]
    expected = measure(maps.abs().sum(1).flatten(1), mask.flatten(1))
    torch.testing.assert_close(got[headline], expected.float(), rtol=1e-4, atol=1e-5)
    if metric is not localisation_auc:
        torch.testing.assert_close(got["chance"], mask.float().mean((1, 2)))
    alone = scores_of(metric, maps[:1], mask[:1])
    torch.testing.assert_close(alone[headline], got[headline][:1])
    assert alone[headline].dtype == torch.float32


def test_the_pointing_game_allows_a_near_miss() -> None:
    maps, mask = torch.full((1, 1, H, W), 0.1), torch.zeros(1, H, W, dtype=torch.bool)
    maps[0, 0, 1, 1], mask[0, 3, 2] = 5.0, True
    for tolerance, hit, chance in ((0, 0, 1 / 24), (1, 0, 6 / 24), (2, 1, 15 / 24)):
        got = scores_of(pointing_game, maps, mask, tolerance=tolerance)
        assert got["hit"].item() == hit
        assert got["chance"].item() == pytest.approx(chance)


@pytest.mark.parametrize("metric", MASKED)
def test_without_a_mask_there_is_nothing_to_find(metric: Callable[..., dict[str, Tensor]]) -> None:
    maps, mask = torch.rand(2, 1, H, W) + 0.1, torch.zeros(2, H, W, dtype=torch.bool)
    mask[1, 1, 1:3] = True
    for values in scores_of(metric, maps, mask).values():
        assert values.isnan().tolist() == [True, False]
    with pytest.raises(NotApplicable, match="which pixels carry the class"):
        metric(case(Maps(maps, maps), maps))
    whole = scores_of(metric, maps, torch.ones(2, H, W, dtype=torch.bool))
    expected = [float("nan")] * 2 if metric is localisation_auc else [1, 1]
    assert next(iter(whole.values())).tolist() == pytest.approx(expected, nan_ok=True)


# the grid pointing game


class Colours(nn.Module):
    """The class is the channel that is lit; logits are sums over channels, of images of any size."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


def coloured(n: int, classes: int = 3, size: tuple[int, int] = (H, W)) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % classes
    light = 0.2 + 0.5 * Draws(4, torch.arange(n)).uniform(1, *size)
    return light * F.one_hot(y, classes)[..., None, None], y


@pytest.mark.parametrize("tiles", ["halved", "full"])
@pytest.mark.parametrize("classes", [2, 3])
def test_evidence_on_the_image_alone_scores_one(tiles: str, classes: int) -> None:
    x, y = coloured(20, classes)
    got = grid_pointing_game(
        case(Colours(), x, y), attribution="integrated_gradients", of="logit", tiles=tiles
    )
    torch.testing.assert_close(got["share"], torch.ones(20))
    assert got["probability"].shape == (20,)
    assert got["recognised"].tolist() == [1] * 20


def test_evidence_without_a_place_scores_a_quarter() -> None:
    x, y = coloured(400)
    model = Colours()
    constant = grid_pointing_game(case(model, x, y), attribution="gradient", of="logit")["share"]
    torch.testing.assert_close(constant, torch.full((400,), 0.25))
    random = grid_pointing_game(case(model, x, y), attribution="random")["share"]
    assert abs(random.mean().item() - 0.25) < 4 * random.std().item() / 20 < 0.05
    opposite = grid_pointing_game(
        case(model, x, y), attribution="integrated_gradients", of="cross_entropy"
    )
    assert (opposite["share"] < 0.01).all()  # all that speaks for a loss is elsewhere


def test_the_mosaic_by_hand() -> None:
    x, others = (
        Draws(1, torch.arange(4)).uniform(2, H, W),
        Draws(2, torch.arange(4)).uniform(3, 2, H, W),
    )
    quarter = torch.arange(4)
    for pool, (h, w) in ((2, (H // 2, W // 2)), (1, (H, W))):
        got = _mosaic(x, others, quarter, pool)
        assert got.shape == (4, 2, 2 * h, 2 * w)
        for i in range(4):
            cells = [
                got[i, :, r * h : (r + 1) * h, c * w : (c + 1) * w] for r in (0, 1) for c in (0, 1)
            ]
            small = [image.view(2, h, pool, w, pool).mean((2, 4)) for image in (x[i], *others[i])]
            torch.testing.assert_close(cells[i], small[0])
            rest = [cells[(i + k) % 4] for k in (1, 2, 3)]
            torch.testing.assert_close(torch.stack(rest), torch.stack(small[1:]))


def test_partners_are_of_other_classes_and_the_same_in_any_batch() -> None:
    x, y = coloured(600)
    c = case(Colours(), x, y)
    partners = _partners(c, c.draws)
    assert (c.train_y[partners] != y[:, None]).all()
    assert len(partners.unique()) > 500, "drawn from everywhere"
    some = replace(c, x=x[5:9], y=y[5:9], draws=c.draws[5:9])
    assert torch.equal(_partners(some, some.draws), partners[5:9])
    whole, part = (grid_pointing_game(s, attribution="random") for s in (c, some))
    torch.testing.assert_close(part["share"], whole["share"][5:9])


def test_a_mosaic_that_cannot_be_made_is_not_applicable() -> None:
    x, y = coloured(4, size=(5, 6))
    with pytest.raises(NotApplicable, match="needs an even size, got 5x6"):
        grid_pointing_game(case(Colours(), x, y))
    assert grid_pointing_game(case(Colours(), x, y), tiles="full")["share"].isfinite().all()
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 6, 3))
    with pytest.raises(NotApplicable, match="takes images of 10x12"):
        grid_pointing_game(case(fixed, x, y), tiles="full")
    # a head that reads a larger image as several images
    several = nn.Sequential(nn.AvgPool2d((5, 6)), nn.Flatten(0), nn.Unflatten(0, (-1, 3)))
    with pytest.raises(NotApplicable, match="takes images of 10x12"):
        grid_pointing_game(case(several, x, y), tiles="full")
    x, y = coloured(3)
    alike = replace(case(Colours(), x, y), train_y=y * 0)
    with pytest.raises(NotApplicable, match="all training images are of class 0"):
        grid_pointing_game(alike)
    with pytest.raises(NotApplicable, match="labels of the training images"):
        grid_pointing_game(replace(alike, train_y=None))


class Blinkered(Colours):
    """Sees what the mask lets it see."""

    def __init__(self, seen: Tensor) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.seen)


def test_an_image_that_the_network_does_not_see_in_its_mosaic_has_no_share() -> None:
    x, y = coloured(40)
    whole = case(Colours(), x, y)
    quarter = (4 * whole.draws.fork("mosaic").fork("quarter").uniform(1).squeeze(1)).long()
    seen = torch.ones(H, W)
    seen[H // 2 :, W // 2 :] = 0  # nothing of the last quarter
    rows = torch.cat([(quarter != 3).nonzero(), (quarter == 3).nonzero()[:3]]).squeeze(1)
    c = replace(whole, model=Blinkered(seen), x=x[rows], y=y[rows], draws=whole.draws[rows])
    got = grid_pointing_game(c, of="logit")
    expected = (quarter[rows] != 3).tolist()
    assert got["recognised"].bool().tolist() == expected
    assert got["share"].isfinite().tolist() == expected
    assert got["probability"].isfinite().all()


def test_the_grid_does_not_apply_to_a_network_that_sees_hardly_any_image() -> None:
    x, y = coloured(40)
    seen = torch.zeros(H, W)
    seen[0, 0] = 1
    with pytest.raises(NotApplicable, match=r"recognises the image in \d\d% of the mosaics"):
        grid_pointing_game(case(Blinkered(seen), x, y))


def test_misclassified_images_are_left_out_of_the_grid() -> None:
    x, y = coloured(6)
    c = case(Colours(), x, y.where(torch.arange(6) != 2, 0))
    for values in grid_pointing_game(c).values():
        assert values.isnan().nonzero().tolist() == [[2]]


# where the masks come from


def test_strokes_are_what_is_drawn() -> None:
    digits = load("digits").test
    mask = strokes(digits)
    assert mask.shape == (len(digits), 8, 8)
    assert torch.equal(mask, digits.x[:, 0] >= 2 / 16)
    assert mask.flatten(1).any(1).all()
    colour = Split(torch.tensor([0.05, 0.2, 0.0]).view(1, 3, 1, 1), digits.y[:1], digits.ids[:1])
    assert strokes(colour).tolist() == [[[True]]]


@pytest.mark.parametrize("name", ["digits", "planted"])
def test_the_harness_hands_over_the_masks_of_the_data_set(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = load(name)
    data: Dataset = replace(full, test=full.test[:9])
    monkeypatch.setattr(measure, "dataset", lambda *_: data)
    monkeypatch.setattr(measure, "model", lambda *_: nn.Flatten())
    training = SimpleNamespace(data=DataSpec(name, None, None), seed=0)
    cell = Cell(training, Part("metrics", "pointing_game", ()), None)  # type: ignore[arg-type]
    place = Place(tmp_path, None, "cpu")  # type: ignore[arg-type]
    mask = measure.case(place, cell, "key").mask()
    assert torch.equal(mask, data.masks(data.test))
    data = replace(data, masks=None)
    assert measure.case(place, cell, "key").mask() is None


def test_a_key_holds_where_the_masks_come_from() -> None:
    def facts(data: str, metric: str) -> dict[str, str]:
        training = SimpleNamespace(data=DataSpec(data, 50, 10), seed=0)
        cell = Cell(training, Part("metrics", metric, ()), None)  # type: ignore[arg-type]
        place = SimpleNamespace(data=None)
        return services.facts(place, cell, used(cell) & {"mask"})  # type: ignore[arg-type]

    assert facts("digits", "gini") == facts("planted", "grid_pointing_game") == {}
    assert facts("digits", "relevance_mass")["mask"] != facts("planted", "relevance_mass")["mask"]


# the truth of `planted`


def learn(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """120 steps on 2000 images; the model is frozen afterwards."""
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(120):
        rows = slice(100 * (step % 20), 100 * (step % 20) + 100)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Case]:
    """Small networks that know the bar alone, or the stripes alone, on the same test images."""
    torch.set_num_threads(1)
    data = load("planted")
    train, test = data.train[:2000], data.test[:100]
    bars = planted.without_shortcut(train)
    found = {}
    for name, x in {"bar": bars, "stripes": train.x - bars + bars.mean()}.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.BatchNorm2d(1), digits_cnn(channels=1, classes=4, size=16))
        learn(model, x, train.y)
        found[name] = case(model, test.x, test.y, planted.masks(test))
    return found


def test_the_grid_on_planted_asks_for_a_network_that_sees_images_in_mosaics(
    fitted: dict[str, Case],
) -> None:
    """A linear layer over all places has learnt no image of half the size; a network that pools sees each of four."""
    data = load("planted")
    with pytest.raises(NotApplicable, match="recognises the image in"):
        grid_pointing_game(replace(fitted["bar"], train_x=data.train.x, train_y=data.train.y))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pooled = nn.Sequential(
            nn.BatchNorm2d(1), nn.Conv2d(1, 12, 7, padding=3), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
            nn.Flatten(), nn.Linear(12, 4),
        )  # fmt: skip
    learn(pooled, planted.without_shortcut(data.train[:2000]), data.train.y[:2000])
    c = replace(fitted["bar"], model=pooled, train_x=data.train.x, train_y=data.train.y)
    own, random = (
        grid_pointing_game(c, attribution=name, tiles="full") for name in ("gradient", "random")
    )
    assert own["recognised"].nanmean() > 0.9
    assert own["share"].nanmean() > 0.4
    assert random["share"].nanmean().item() == pytest.approx(0.25, abs=0.03)


MODELS_MAPS = [
    "gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "smoothgrad_squared", "vargrad",
    "gradient_shap", "deeplift", "guided_backprop",
]  # fmt: skip


@pytest.mark.parametrize("attribution", MODELS_MAPS)
@pytest.mark.parametrize("metric", [relevance_mass, relevance_rank, localisation_auc])
def test_the_true_model_is_ranked_above_the_shortcut_by_every_gradient(
    metric: Callable[..., dict[str, Tensor]], attribution: str, fitted: dict[str, Case]
) -> None:
    bar, stripes = (
        next(iter(metric(fitted[name], attribution=attribution).values()))
        for name in ("bar", "stripes")
    )
    assert bar.mean() > stripes.mean() + 0.04


def test_occlusion_by_mid_grey_hides_the_background_and_not_the_bar(
    fitted: dict[str, Case],
) -> None:
    """Why the cards name occlusion an exception: behind the background's own grey the order is right."""
    x, mask = fitted["bar"].x, fitted["bar"].mask()
    assert (x[:, 0][mask].mean() - 0.5).abs() < 0.1 < (x[:, 0][~mask].mean() - 0.5).abs()
    ground = torch.stack([one[0][~own].mean() for one, own in zip(x, mask, strict=True)])
    mass = {}
    for name, c in fitted.items():
        explained = Explained(c.model, predict(c.model, x))
        mass[name, "grey"] = relevance_mass(c, attribution="occlusion")["mass"].mean()
        with torch.no_grad():
            maps = Occlusion(explained).attribute(
                x, sliding_window_shapes=(1, 2, 2), strides=(1, 1, 1),
                baselines=ground.view(-1, 1, 1, 1).expand_as(x).contiguous(),
            )  # fmt: skip
        mass[name, "ground"] = _mass(maps.abs().flatten(1).double(), mask.flatten(1)).mean()
    chance = mask.float().mean()
    assert mass["bar", "grey"] < mass["stripes", "grey"] < chance
    assert mass["bar", "ground"] > mass["stripes", "ground"] + 0.3


@pytest.mark.parametrize("metric", MASKED)
def test_grad_cam_of_networks_that_weigh_every_place_by_itself_is_an_exception(
    metric: Callable[..., dict[str, Tensor]], fitted: dict[str, Case]
) -> None:
    """As the cards say: a channel's slope is averaged over places that the last layer weighs apart."""
    bar, stripes = (
        next(iter(metric(fitted[name], attribution="grad_cam").values())).mean()
        for name in ("bar", "stripes")
    )
    assert bar < stripes


@pytest.mark.parametrize("metric", MASKED)
def test_the_true_model_is_ranked_above_the_one_that_uses_the_shortcut(
    metric: Callable[..., dict[str, Tensor]], fitted: dict[str, Case]
) -> None:
    seen = planted.without_shortcut(load("planted").test[:100])
    assert (predict(fitted["bar"].model, seen) == fitted["bar"].y).float().mean() > 0.9
    bar, stripes = (next(iter(metric(fitted[name]).values())) for name in ("bar", "stripes"))
    random = metric(fitted["bar"], attribution="random")
    chance = random["chance"].mean().item() if "chance" in random else 0.5
    assert bar.mean() > stripes.mean() + 0.1
    assert bar.mean() > chance + 0.08
    assert stripes.mean() < chance + 0.03
    assert next(iter(random.values())).mean().item() == pytest.approx(chance, abs=0.1)
