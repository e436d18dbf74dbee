"""What every metric of maps lets one choose: how channels become one number a pixel, and the class that is explained.

The tests find the metrics by themselves: those whose card says how they read a map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from benchmark.cards import Card, cards
from benchmark.measuring.measure import checked
from benchmark.plan import Cell, Part
from benchmark.planner import plan
from benchmark.suite import Suite, SuiteError
from metrics.attribution import explain
from metrics.case import Case, Scores, predict
from metrics.importance import pixel_map
from metrics.manifold._generators import VaeManifold
from metrics.manifold._vae import VAE
from metrics.maps import Kept, Magnitude
from metrics.randomness import Draws
from metrics.sharpness.gini import _gini
from metrics.threat import Linf

MAPS: dict[str, Card] = {
    name: card
    for name, card in cards("metrics").items()
    if not card.sections.get("Map", "none").startswith("none")
}
QUICK: dict[str, dict[str, object]] = {
    "attribution_attack": {"steps": 3}, "roar": {"retrains": 1}, "kar": {"retrains": 1},
    "diff_roar": {"retrains": 1},
}  # fmt: skip
COUNT = 40


def choices(setting: str) -> list[tuple[str, list[str]]]:
    """Metric -> the values of a setting of this name, of those that have it."""
    found = {name: {p.name: p for p in card.parameters}.get(setting) for name, card in MAPS.items()}
    return [(name, list(get_args(p.type))) for name, p in found.items() if p]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def case() -> Case:
    """Colour images under an untrained network, every other one labelled with another class than it predicts."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4)]
        model = nn.Sequential(*layers).eval().requires_grad_(False)
        vae = VAE(3, 8, 8, 4).eval().requires_grad_(False)
    x, train_x = drawn(1, COUNT, 3, 8, 8), drawn(2, 30, 3, 8, 8)
    y, train_y = predict(model, x), torch.arange(30) % 4
    y[1::2] = (y[1::2] + 1) % 4

    def refit(jobs: object) -> Tensor:
        return torch.stack([predict(model, job.test_images) == y for job in jobs]).float()  # type: ignore[attr-defined]

    return Case(
        model=model, x=x, y=y, draws=Draws(0, torch.arange(COUNT)), train_x=train_x,
        train_draws=Draws(0, torch.arange(30)), threat=Linf(0.1), classes=4, grade=lambda a: {}, refit=refit,
        manifold=lambda *settings: VaeManifold.at(vae, x), surrogate=lambda name: model,
        mask=lambda: x.mean(1) > 0.5, train_y=train_y,
    )  # fmt: skip


def scores(case: Case, name: str, **settings: object) -> Scores:
    """What a metric gives; the game on mosaics with a network that sees which channel is bright."""
    if name == "grid_pointing_game":
        see = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        bright, labels = torch.eye(3), torch.arange(COUNT) % 3
        x = case.x * bright[labels][..., None, None] - 0.1 * case.x
        train_y = torch.arange(30) % 3
        train_x = case.train_x * bright[train_y][..., None, None]
        case = replace(
            case, model=see, x=x, y=labels, train_x=train_x, train_y=train_y, classes=3
        )  # fmt: skip
        # the network is linear: only maps that follow the image differ in how they are reduced
        settings = {"attribution": "gradient_x_input", **settings}
    found: Scores = MAPS[name].load()(case, **QUICK.get(name, {}), **settings)
    return found


def same(one: Scores, other: Scores) -> bool:
    return all(torch.allclose(one[k], other[k], equal_nan=True) for k in one)


@pytest.mark.parametrize("setting", ["reduction", "target"])
@pytest.mark.parametrize("name", MAPS)
def test_a_metric_of_maps_has_the_setting_or_its_card_says_why_not(name: str, setting: str) -> None:
    says = f"No `{setting}`: " in " ".join(MAPS[name].sections["Map"].split())
    has = any(p.name == setting for p in MAPS[name].parameters)
    assert says != has


@pytest.mark.parametrize("setting", ["reduction", "target"])
def test_the_settings_have_the_same_values_everywhere(setting: str) -> None:
    signed = {*get_args(Magnitude), "sum"}
    valid = {"reduction": [{*get_args(Magnitude)}, signed, {*get_args(Kept)}]}
    for name, values in choices(setting):
        assert set(values) in valid.get(setting, [{"predicted", "true"}]), name


# what has no usual value that could be halved, or where half of it changes nothing for four classes and two layers
OTHERS: dict[tuple[str, str], object] = {
    ("attribution_attack", "steps"): 1, ("pag_cosine", "targets"): 1, ("cascading_randomisation", "stages"): 1,
    ("attribution_attack", "step_size"): 0.01, ("saliency_consensus", "step_size"): 0.01,
}  # fmt: skip
# tested by themselves: what is chosen among, and what the harness provides
ELSEWHERE = {
    "attribution", "of", "reduction", "target", "generator", "epochs", "controls", "tiles", "rivals", "retrains",
}  # fmt: skip


def changed() -> list[tuple[str, str, object]]:
    """Metric, setting, and a value that is not the usual one."""
    found: list[tuple[str, str, object]] = []
    for name, card in MAPS.items():
        for p in card.parameters:
            if p.name not in ELSEWHERE:
                own = OTHERS.get((name, p.name))
                found.append((name, p.name, own or _other(p.default, get_args(p.type))))
    return found


def _other(usual: object, values: tuple[object, ...]) -> object:
    match usual:
        case bool():
            return not usual
        case int():
            return usual + 1 if usual < 3 else usual // 2
        case float():
            return usual / 2
        case tuple():
            return tuple(n + 5 for n in usual)
        case str():
            return next(value for value in values if value != usual)
    raise AssertionError(f"what else than {usual}?")


@pytest.mark.parametrize(("name", "setting", "value"), changed())
def test_no_setting_is_idle(
    case: Case, name: str, setting: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUICK, name, {k: v for k, v in QUICK.get(name, {}).items() if k != setting})
    usual, other = scores(case, name), scores(case, name, **{setting: value})
    assert usual.keys() != other.keys() or not same(usual, other)


@pytest.mark.parametrize(("name", "values"), choices("reduction"))
def test_every_reduction_gives_what_the_card_says(case: Case, name: str, values: list[str]) -> None:
    usual = scores(case, name)
    found = {value: scores(case, name, reduction=value) for value in values}
    for value, own in found.items():
        checked(Cell(None, Part("metrics", name, ()), None), own, COUNT)
        headline = own[MAPS[name].measures[0].name]
        assert headline.isfinite().any(), value
    (default,) = (p.default for p in MAPS[name].parameters if p.name == "reduction")
    assert same(found.pop(default), usual)
    assert not all(same(own, usual) for own in found.values()), "the setting is idle"


@pytest.mark.parametrize("name", [name for name, _ in choices("target")])
def test_the_true_class_is_explained_where_it_is_asked_for(case: Case, name: str) -> None:
    predicted, true = (scores(case, name, target=value) for value in ("predicted", "true"))
    wrong = case.y != predict(case.model, case.x)
    head = MAPS[name].measures[0].name
    assert not torch.allclose(true[head][wrong], predicted[head][wrong], equal_nan=True)
    if (
        name == "tangent_fraction"
    ):  # of the manifold's points, where the model predicts other classes
        return
    for measure, own in true.items():
        assert torch.allclose(own[~wrong], predicted[measure][~wrong], equal_nan=True), measure


def test_a_reduction_is_that_of_the_pixels(case: Case) -> None:
    maps = explain(case.model, case.x, case.draws)
    for reduction in get_args(Magnitude):
        expected = _gini(pixel_map(maps, reduction).flatten(1))
        assert torch.equal(scores(case, "gini", reduction=reduction)["gini"], expected)


@pytest.mark.parametrize("name", ["gini", "entropy", "relevance_mass", "attribution_attack"])
def test_a_sign_is_refused_before_anything_runs_where_shares_are_measured(name: str) -> None:
    suite = Suite(
        name="s", trainer=[{"name": "standard"}], metric=[{"name": name, "reduction": "sum"}]
    )
    with pytest.raises(
        SuiteError, match=r"reduction = 'sum': Input should be 'sum_abs', 'abs_sum', "
    ):
        plan(suite)
