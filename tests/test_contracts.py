"""What every trainer and every metric must keep to. The tests find the methods by themselves."""

import copy
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from benchmark.cards import cards
from benchmark.datasets._strokes import strokes
from benchmark.grading import grade
from benchmark.measuring import networks
from benchmark.measuring.measure import checked
from benchmark.measuring.place import dataset
from benchmark.plan import Cell, DataSpec, Part
from metrics.case import Case, NotApplicable, predict
from metrics.manifold._generators import VaeManifold
from metrics.manifold._vae import VAE
from metrics.randomness import Draws
from metrics.threat import L1, L2, Linf
from trainers.base import Diverged, Images
from trainers.recipe import Recipe

DATA = DataSpec("digits", 300, 24)
RECIPE = Recipe("digits_cnn", epochs=6, lr=5e-3, batch_size=64, eps_ramp=0.3, keep="last")
SHORT = replace(RECIPE, epochs=1)
FEW = {
    "auto_attack": {"queries": 50}, "square": {"queries": 50}, "masking": {"queries": 50},
    "apgd": {"steps": 10}, "fab": {"steps": 10}, "minimal_norm": {"steps": 10},
}  # fmt: skip
"""What would last at its defaults."""
THREATS = {"certified_accuracy": L2(0.5)}
"""Under which a metric is measured that does not apply under Linf."""


@pytest.fixture(scope="module")
def digits():
    return dataset(DATA, None)


def images(split):
    return Images(split.x, split.y, split.ids)


def trained(digits, name, seed=0, recipe=RECIPE, threat=None, x=None, **settings):
    card = cards("trainers")[name]
    model = networks.untrained(digits, "digits", recipe, seed)
    train = images(digits.train)
    threat = threat or (Linf(0.05) if card.needs_threat else None)
    return card.load()(
        model, train if x is None else train._replace(x=x), images(digits.validation),
        recipe=recipe, threat=threat, seed=seed, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("name", cards("trainers"))
class TestTrainers:
    def test_learns_repeats_and_leaves_the_global_generator(self, digits, name):
        before = torch.get_rng_state()
        first, again = trained(digits, name), trained(digits, name)
        assert torch.equal(torch.get_rng_state(), before)
        weights = again.model.state_dict()
        assert all(
            torch.equal(value, weights[key]) for key, value in first.model.state_dict().items()
        )
        assert not any(module.training for module in first.model.modules())
        replays = next(
            (p.default for p in cards("trainers")[name].parameters if p.name == "replays"), 1
        )
        assert len(first.log) == max(1, RECIPE.epochs // replays)
        assert first.kept == len(first.log) - 1
        accuracy = (predict(first.model, digits.train.x) == digits.train.y).float().mean()
        assert accuracy > 0.5, "six short epochs on ten classes must beat chance by far"

    def test_the_seed_matters(self, digits, name):
        one = trained(digits, name, seed=0, recipe=SHORT).model.state_dict()
        other = trained(digits, name, seed=1, recipe=SHORT).model.state_dict()
        assert any(not torch.equal(value, other[key]) for key, value in one.items())

    def test_stops_when_the_loss_is_not_a_number(self, digits, name):
        broken = digits.train.x.clone()
        broken[7] = torch.nan
        with pytest.raises(Diverged, match=r"loss is nan in epoch 1, step \d+ \(lr "):
            trained(digits, name, x=broken)

    def test_refuses_an_unknown_setting(self, digits, name):
        with pytest.raises(TypeError, match="no_such_setting"):
            trained(digits, name, no_such_setting=1)

    def test_its_card_says_whether_it_needs_a_threat(self, digits, name):
        card = cards("trainers")[name]
        model = networks.untrained(digits, "digits", RECIPE, 0)
        arguments = (model, images(digits.train), images(digits.validation))
        if card.needs_threat:
            with pytest.raises(ValueError, match="needs a threat"):
                card.load()(*arguments, recipe=SHORT, threat=None, seed=0)
            under = [
                trained(digits, name, recipe=SHORT, threat=threat).model(digits.test.x)
                for threat in (Linf(0.05), L2(0.5), L1(2.0))
            ]
            assert all(logits.isfinite().all() for logits in under)
            assert not any(torch.equal(a, b) for a, b in combinations(under, 2))
        else:
            card.load()(*arguments, recipe=SHORT, threat=None, seed=0)


@pytest.mark.parametrize("name", [n for n, c in cards("trainers").items() if c.needs_threat])
def test_the_radius_of_every_threat_rises_as_the_recipe_says(digits, name):
    whole, rising = (
        trained(digits, name, recipe=replace(SHORT, eps_ramp=ramp)).model.state_dict()
        for ramp in (0.0, 1.0)
    )
    assert any(not torch.equal(value, rising[key]) for key, value in whole.items())


@pytest.fixture(scope="module")
def classifier(digits):
    return trained(digits, "standard").model.requires_grad_(False)


def case_of(digits, model, threat, n=None):
    test = digits.test[:n]
    torch.manual_seed(0)
    vae = VAE(1, 8, 8, 4).eval().requires_grad_(False)
    return Case(
        model=model, x=test.x, y=test.y, draws=Draws(0, test.ids),
        train_x=digits.train.x, train_draws=Draws(0, digits.train.ids), threat=threat, classes=10,
        grade=lambda adversarial: grade(model, test.x, test.y, threat, adversarial),
        # a stand-in for retraining: the classifier itself on the changed test images
        refit=lambda jobs: torch.stack([predict(model, job.test_images) == test.y for job in jobs]).float(),
        manifold=lambda *settings: VaeManifold.at(vae, test.x),
        surrogate=lambda name: model,
        mask=lambda: strokes(test), train_y=digits.train.y,
    )  # fmt: skip


def case_for(name, digits, model, threat, n=None):
    """The case; for the game on mosaics, in which no network of digits sees one, with a network that sees colours."""
    case = case_of(digits, model, threat, n)
    if name != "grid_pointing_game":
        return case
    see = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    x, train_x = (images * torch.eye(10)[y][..., None, None] for images, y in (
        (case.x, case.y), (case.train_x, case.train_y)
    ))  # fmt: skip
    return replace(case, model=see, x=x, train_x=train_x)


@pytest.mark.parametrize("name", cards("metrics"))
class TestMetrics:
    def test_gives_what_its_card_says_and_leaves_everything_as_it_was(
        self, digits, classifier, name
    ):
        model = copy.deepcopy(classifier)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        case = case_for(name, digits, model, THREATS.get(name, Linf(0.1)))
        pixels, before = case.x.clone(), torch.get_rng_state()
        card = cards("metrics")[name]
        scores = card.load()(case, **FEW.get(name, {}))
        assert torch.equal(torch.get_rng_state(), before), "the global generator moved"
        assert torch.equal(case.x, pixels), "the images were changed in place"
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert not any(m.training or m._forward_hooks or m._backward_hooks for m in model.modules())
        assert all(p.grad is None for p in model.parameters())
        assert {key.partition("@")[0] for key in scores} == {m.name for m in card.measures}
        checked(Cell(None, Part("metrics", name, ()), None), scores, len(case.y))
        headline = scores[card.measures[0].name]
        assert headline.isfinite().any()

    def test_is_the_same_for_some_of_the_images_as_for_all(self, digits, classifier, name):
        """A score belongs to its image, not to the batch (measures that refer to a whole set are exempt)."""
        if name in ("roar", "kar", "reconstruction_distance", "on_off_manifold", "auto_attack"):
            pytest.skip("refers to the whole set of images, or is a library's")
        metric = cards("metrics")[name].load()
        few, threat = FEW.get(name, {}), THREATS.get(name, Linf(0.1))
        whole = metric(case_for(name, digits, classifier, threat), **few)
        part = metric(case_for(name, digits, classifier, threat, n=7), **few)
        for key, values in part.items():
            torch.testing.assert_close(
                values, whole[key][..., :7], rtol=1e-4, atol=1e-5, equal_nan=True
            )

    def test_its_card_says_whether_it_needs_a_threat(self, digits, classifier, name):
        card = cards("metrics")[name]
        case = case_for(name, digits, classifier, None, n=4)
        if card.needs_threat:
            with pytest.raises(NotApplicable, match="needs a threat"):
                card.load()(case)
        else:
            card.load()(case)


GINI = Cell(None, Part("metrics", "gini", ()), None)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"ginni": torch.zeros(5)}, r"a dictionary with its headline 'gini', got \['ginni'\]"),
        ({}, "must return a dictionary with its headline"),
        (torch.zeros(5), "must return a dictionary"),
        ({"gini": torch.zeros(5), "x": torch.zeros(5)}, r"returned 'x', its card lists \['gini'\]"),
        ({"gini": torch.zeros(4)}, r"gini is \(4,\); one number per image is a tensor \(5,\)"),
        ({"gini": [0.0] * 5}, "gini is list; one number per image"),
        ({"gini": torch.zeros(5), "gini@0.5": torch.zeros(5)}, "its card says no @ for 'gini'"),
    ],
)
def test_scores_that_are_not_as_the_card_says_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        checked(GINI, scores, 5)


def test_a_point_of_a_curve_needs_a_number():
    roar = Cell(None, Part("metrics", "roar", ()), None)
    for name in ("accuracy", "accuracy@top", "accuracy@nan"):
        with pytest.raises(ValueError, match=r"its card says name@NUMBER for 'accuracy'"):
            checked(roar, {"score": torch.zeros(5), name: torch.zeros(5)}, 5)


def test_scores_become_float32():
    for kind in (torch.bfloat16, torch.float64, torch.bool):
        assert checked(GINI, {"gini": torch.ones(5, dtype=kind)}, 5)["gini"].dtype == torch.float32
