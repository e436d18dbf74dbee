"""Where the truth is known: on `planted` the harness's own models must show what theory says they show."""

import pytest
import torch

from benchmark.measuring import case as case_of
from benchmark.place import Place
from benchmark.plan import Cell, plan
from benchmark.suite import Entry, Suite
from benchmark.training import train
from metrics.attacks import pgd, random_start
from metrics.case import predict
from metrics.manifold.reconstruction_distance import reconstruction_distance
from metrics.manifold.tangent_fraction import _fraction, tangent_fraction, tangents
from metrics.randomness import Draws

LIMIT = 200


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A standard and an adversarially trained model, trained as `bench run` trains them."""
    torch.set_num_threads(1)
    suite = Suite(
        name="truth", dataset="planted", limit=LIMIT, file="test",
        trainer=[Entry(name="standard"), Entry(name="pgd_at")], metric=[Entry(name="tangent_fraction")],
    )  # fmt: skip
    made = plan(suite)
    place = Place(tmp_path_factory.mktemp("truth"), None, "cpu")
    found = {}
    for cell in made.cells:
        train(place, cell.training, cell.training.label)
        found[cell.training.label.partition(" ")[0]] = case_of(
            place, Cell(cell.training, cell.metric, made.trainings[1].threat), cell.training.label
        )
    return found


def test_adversarial_training_removes_the_planted_shortcut(cases):
    for name, low, high in (("standard", 0.0, 0.3), ("pgd_at", 0.8, 1.0)):
        case = cases[name]
        start = random_start(case.x, case.threat, case.draws)
        attacked = pgd(
            case.model,
            case.x,
            case.y,
            case.threat,
            steps=20,
            step_size=case.threat.eps / 8,
            start=start,
        )
        assert (predict(case.model, case.x) == case.y).float().mean() > 0.98
        assert low <= (predict(case.model, attacked) == case.y).float().mean() <= high


def test_adversarial_training_turns_the_gradient_towards_the_true_manifold(cases):
    standard, robust = (
        tangent_fraction(cases[name])["fraction"] for name in ("standard", "pgd_at")
    )
    assert robust.mean() > standard.mean() + 0.2
    assert (robust > standard).float().mean() > 0.9


def test_the_fraction_is_one_inside_the_true_tangent_space_and_chance_for_noise(cases):
    manifold = cases["standard"].manifold()
    basis = tangents(manifold)
    k, d = basis.shape[1:]
    draws = Draws(0, torch.arange(LIMIT))
    inside = (draws.normal(1, k).double() @ basis.double()).view(LIMIT, 1, 16, 16)
    assert (_fraction(basis, inside) - 1).abs().max() < 1e-4
    noise = _fraction(basis, draws.fork("noise").normal(1, 16, 16)).mean().item()
    assert noise == pytest.approx((k / d) ** 0.5, rel=0.02)


def test_the_robust_models_adversarial_examples_stay_nearer_to_the_true_manifold(cases):
    standard, robust = (reconstruction_distance(cases[name]) for name in ("standard", "pgd_at"))
    for scores in (standard, robust):
        assert scores["clean_distance"].abs().max() < 1e-3
        moved = scores["distance"][~scores["distance"].isnan()]
        assert len(moved) > LIMIT / 2
        assert 0 <= moved.min() <= moved.max() <= 1.5
    assert robust["distance"].nanmedian() < standard["distance"].nanmedian()
