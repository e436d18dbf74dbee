"""Settings of trainers: the defaults are those of the papers, and recipes and data sets change only what they name."""

import numpy as np
import pytest
import torch

from benchmark.cards import card, cards
from benchmark.datasets.defaults import defaults
from benchmark.measuring.networks import normalisation
from trainers._optimisation import rate
from trainers.recipe import Recipe

# the authors' values, or where a paper has none the ones the cards give reasons for
DEFAULTS = {
    "standard": {},
    "gaussian_noise": {"sigma": 0.25},
    "fgsm_rs": {"alpha": 1.25, "clip_start": False, "attack_bn": "eval"},
    "n_fgsm": {"noise": 2.0, "alpha": 1.0},
    "grad_align": {"weight": 0.2},
    "free_at": {"replays": 8},
    "pgd_at": {"steps": 10, "step_size": None, "loss": "xent", "random_start": True, "attack_bn": "eval"},
    "trades": {"beta": 6.0, "steps": 10, "step_size": None},
    "mart": {"beta": 5.0, "steps": 10, "step_size": None},
    "awp": {"on": "pgd_at", "gamma": None, "warm_up": None, "beta": None, "steps": 10, "step_size": None},
    "input_gradient": {"weight": 1.0},
    "finite_difference": {"weight": 0.1, "h": 0.01, "norm": "L2"},
    "jacobian": {"weight": 0.01, "projections": 1},
    "cure": {"weight": 0.8, "h": None, "penalty": "norm", "ramp": 0.5},
    "sagr": {
        "weight": 0.03, "rho": 2.0, "reading": "saliency_weighted", "of": "logits", "floor": 0.1, "salient": 0.3,
        "tau": 1.0, "false_rows": 3, "projections": 0, "ramp": 0.1,
    },
    "adv_gsct": {
        "clean_weight": 0.0, "offending_weight": 1.0, "consensus_weight": 1.0, "anchor": 0.0, "offend": "mask+step",
        "kappa": 0.3, "soft": None, "edges": 0.0, "fill": "zero", "alpha": 1.25, "saliency": "margin",
        "compare": "signed", "similarity": "cosine", "symmetric": False, "ramp": 0.1,
    },
    "saliency_guided": {"weight": 1.0, "share": 0.5, "fill": "noise", "signed": False},
    "jarn": {
        "weight": 1.0, "adaptor_weight": 1.0, "start": 0.875, "critic_every": 20, "channels": 32, "noise": 8 / 255,
    },
    "interpretation": {"cosine_weight": 3.0, "norm_weight": 0.15, "threshold": 1.0},
    "pag": {"weight": 0.5, "towards": "class_mean", "targets": 10},
}  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_those_of_the_papers(name):
    assert {s.name: s.default for s in card("trainers", name).parameters} == DEFAULTS[name]


def test_every_trainer_is_listed():
    assert set(DEFAULTS) == set(cards("trainers"))


def test_a_papers_recipe_keeps_what_the_data_set_needs():
    facts = defaults("cifar10")
    for recipe in facts.recipes.values():
        assert recipe.trainers["adv_gsct"] == facts.trainers["adv_gsct"] == {"offend": "step"}
        assert recipe.trainers["sagr"] == facts.trainers["sagr"]
    assert facts.recipes["kim2019"].trainers["pgd_at"] == {"steps": 40, "random_start": False}
    assert facts.recipes["wong2020"].trainers["pgd_at"] == {"steps": 7, "attack_bn": "train"}
    assert "pgd_at" not in facts.trainers


def test_fast_adversarial_training_on_mnist_is_its_authors():
    """Their train_mnist.py: Adam, batches of 100, 10 epochs, a rate that peaks at 40%, images as they are, no ramp."""
    own = defaults("mnist").recipes["wong2020"]
    recipe = Recipe(**own.recipe)
    assert recipe == Recipe(
        "small_cnn", pixels="plain", epochs=10, batch_size=100, optimiser="adam", lr=5e-3,
        schedule="cyclic", eps_ramp=0.0, keep="last",
    )  # fmt: skip
    for progress in (0.1, 0.4, 0.7, 0.95):
        theirs = np.interp([10 * progress], [0, 10 * 2 // 5, 10], [0, 5e-3, 0])[0]
        assert recipe.lr * rate(recipe.schedule, progress) == pytest.approx(theirs)
    assert "fgsm_rs" not in own.trainers  # alpha 1.25 and a start that is not cut are its defaults


@pytest.mark.parametrize(
    ("pixels", "seen"),
    [
        ("plain", lambda x: x),
        ("symmetric", lambda x: 2 * x - 1),
        ("standardised", lambda x: (x - 0.1307) / 0.3081),
    ],
)
def test_what_a_network_sees_of_the_pixels(pixels, seen):
    facts = defaults("mnist")
    recipe = Recipe(**{**facts.recipe, "pixels": pixels})
    mean, std = normalisation(facts, recipe)
    x = torch.linspace(0, 1, 11)
    torch.testing.assert_close((x - torch.tensor(mean)) / torch.tensor(std), seen(x))


def test_the_norm_of_a_batch_is_weighed_by_its_size():
    """The authors' 0.15 of `interpretation` is for 50 images, and the norm grows with the root of their number."""
    facts = defaults("mnist")
    weight = facts.trainers["interpretation"]["norm_weight"]
    assert weight == pytest.approx(0.15 * (50 / facts.recipe["batch_size"]) ** 0.5, rel=1e-3)


def test_the_radius_on_svhn_rises_over_five_epochs():
    recipe = defaults("svhn").recipe
    assert recipe["eps_ramp"] * recipe["epochs"] == 5
