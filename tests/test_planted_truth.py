"""Where the truth is known: on `planted` the harness's own models must show what theory says they show."""

from dataclasses import replace

import pytest
import torch

from benchmark.datasets.planted import without_shortcut
from benchmark.measuring.measure import case as case_of
from benchmark.measuring.place import Place, dataset
from benchmark.measuring.training import model_key, train
from benchmark.plan import Cell, DataSpec
from benchmark.planner import plan
from benchmark.suite import Entry, Suite
from metrics.attacks import pgd, random_start
from metrics.case import NotApplicable, Refit, predict
from metrics.fidelity.diff_roar import diff_roar
from metrics.fidelity.pixel_flipping import pixel_flipping
from metrics.fidelity.road import road
from metrics.localisation.grid_pointing_game import grid_pointing_game
from metrics.localisation.localisation_auc import localisation_auc
from metrics.localisation.pointing_game import pointing_game
from metrics.localisation.relevance_mass import relevance_mass
from metrics.localisation.relevance_rank import relevance_rank
from metrics.manifold._tangent import tangents
from metrics.manifold.etmann_alignment import etmann_alignment
from metrics.manifold.on_off_manifold import on_off_manifold
from metrics.manifold.pag_cosine import pag_cosine
from metrics.manifold.reconstruction_distance import reconstruction_distance
from metrics.manifold.tangent_fraction import _fraction, tangent_fraction
from metrics.manifold.vae_score_cosine import vae_score_cosine
from metrics.randomness import Draws
from metrics.sharpness.edge_agreement import edge_agreement

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
    for training in made.trainings:
        key = model_key(place, training, {})
        train(place, training, key)
        # the first training is the standard model, the referee of both
        cell = Cell(training, made.cells[0].metric, made.trainings[1].threat, made.trainings[:1])
        found[training.label.partition(" ")[0]] = case_of(place, cell, key)
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
        assert 0 < scores["walked"].min() <= scores["walked"].max() <= 6 * 256**0.5 / 28 + 1e-4
        assert scores["auroc"].nanmean() == 1  # the clean images lie on the manifold
    assert robust["distance"].nanmedian() < standard["distance"].nanmedian()


def test_the_standard_model_is_the_referee_of_both(cases):
    """A walk of 1.5 in 6 steps fools every model that it is led by, and not always another one."""
    kept = {
        (name, referee): reconstruction_distance(case, steps=6, eps=1.5, referee=referee)["kept"]
        for name, case in cases.items()
        for referee in ("standard", "own")
    }
    assert torch.equal(kept["standard", "own"], kept["standard", "standard"])
    assert not torch.equal(kept["pgd_at", "own"], kept["pgd_at", "standard"])


def test_a_model_that_is_its_own_referee_has_no_other_trained():
    metric = Entry(name="reconstruction_distance", referee=["standard", "own"])
    trainer = Entry(name="pgd_at")
    suite = Suite(name="truth", dataset="planted", file="test", trainer=[trainer], metric=[metric])
    by_standard, by_itself = plan(suite).cells
    assert [s.trainer.reference for s in by_standard.surrogates] == ["standard"]
    assert by_itself.surrogates == ()


def test_the_robust_model_heeds_steps_off_the_true_manifold_less(cases):
    standard, robust = (on_off_manifold(cases[name]) for name in ("standard", "pgd_at"))
    assert robust["ratio"].mean() < 0.5 * standard["ratio"].mean()
    assert robust["off"].mean() < 0.2 * standard["off"].mean()


def test_the_robust_models_gradients_lie_along_the_images(cases):
    standard, robust = (etmann_alignment(cases[name]) for name in ("standard", "pgd_at"))
    for measure in standard:
        assert robust[measure].mean() > 1.2 * standard[measure].mean(), measure


def test_class_means_show_the_robust_model_ahead_once_they_are_without_the_shortcut(cases):
    """The mean image of a class has the class's stripes, so that a model that goes by the stripes points to it."""
    bare = without_shortcut(dataset(DataSpec("planted", None, LIMIT), None).train)
    standard, robust = (cases[name] for name in ("standard", "pgd_at"))
    assert pag_cosine(standard)["cosine"].mean() > pag_cosine(robust)["cosine"].mean()
    standard, robust = (replace(case, train_x=bare) for case in (standard, robust))
    assert pag_cosine(standard)["cosine"].mean() < pag_cosine(robust)["cosine"].mean()


def test_images_on_the_known_manifold_have_no_score(cases):
    with pytest.raises(NotApplicable, match="lie on the manifold"):
        vae_score_cosine(cases["standard"])


def first(metric, case, attribution, **settings):
    """The headline of a metric, (n,)."""
    return next(iter(metric(case, attribution=attribution, **settings).values()))


@pytest.mark.parametrize(
    "metric", [pointing_game, relevance_mass, relevance_rank, localisation_auc]
)
def test_the_robust_models_maps_lie_on_the_bar_and_the_controls_do_not_see_models(cases, metric):
    standard, robust = (first(metric, cases[name], "gradient") for name in ("standard", "pgd_at"))
    random = metric(cases["pgd_at"], attribution="random")
    chance = random["chance"].mean().item() if "chance" in random else 0.5
    assert standard.mean() < chance < robust.mean() - 0.3
    found = next(iter(random.values()))
    assert found.mean().item() == pytest.approx(chance, abs=4 * error(found) + 0.01)
    edges = [first(metric, cases[name], "sobel") for name in ("standard", "pgd_at")]
    assert torch.equal(*edges)


MODELS_MAPS = [
    "gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "smoothgrad_squared", "vargrad",
    "gradient_shap", "deeplift", "guided_backprop", "grad_cam", "occlusion",
]  # fmt: skip


@pytest.mark.parametrize("attribution", MODELS_MAPS)
def test_every_map_of_the_robust_model_lies_on_the_bar_more_than_the_standard_ones(
    cases, attribution
):
    for metric in (relevance_mass, relevance_rank, localisation_auc):
        standard, robust = (
            first(metric, cases[name], attribution) for name in ("standard", "pgd_at")
        )
        assert robust.mean() > standard.mean() + 0.08, metric


def test_neither_model_sees_a_halved_image_in_a_mosaic(cases):
    """So its share, which is a quarter for both, would say nothing of them."""
    for case in cases.values():
        with pytest.raises(NotApplicable, match=r"recognises the image in \d\d% of the mosaics"):
            grid_pointing_game(case)


def test_sobels_map_is_the_upper_bound_of_edge_agreement(cases):
    agree = {
        name: first(edge_agreement, cases["pgd_at"], name).nanmean().item()
        for name in ("sobel", "gradient", "blurred_gradient", "random")
    }
    assert agree["sobel"] == pytest.approx(1)
    assert agree["random"] == pytest.approx(0, abs=0.02)
    assert max(agree["gradient"], agree["blurred_gradient"]) < 0.95


@pytest.mark.parametrize("metric", [pixel_flipping, road])
def test_random_maps_gain_nothing_and_gradients_do(cases, metric):
    for case in cases.values():
        blind, known = (first(metric, case, name) for name in ("random", "gradient"))
        assert abs(blind.mean().item()) < 4 * error(blind)
        assert known.mean() > 4 * error(known)
        # blurring adds no information, so that what it gains or costs is to be read beside the map's own
        smooth = first(metric, case, "blurred_gradient")
        assert not torch.equal(smooth, known)


def error(scores):
    """Standard error of the mean."""
    return scores.std().item() / len(scores) ** 0.5


def nearest_template(case):
    """Real retraining that costs nothing: least squares on the pixels."""

    def one(job: Refit):
        train, test = (
            torch.cat([x.flatten(1).double(), torch.ones(len(x), 1).double()], 1)
            for x in (job.train_images, job.test_images)
        )
        onehot = torch.nn.functional.one_hot(case.train_y).double()
        weights = torch.linalg.solve(train.T @ train + torch.eye(train.shape[1]), train.T @ onehot)
        return ((test @ weights).argmax(1) == case.y).float()

    return replace(case, refit=lambda jobs: torch.stack([one(job) for job in jobs]))


def test_diff_roar_of_random_maps_is_zero_and_of_edges_is_not(cases):
    """The fit by pixels reads the stripes, which show between the edges: keeping the edges alone costs accuracy."""
    scores = diff_roar(
        nearest_template(cases["pgd_at"]), attribution="random", retrains=1,
        controls=("random", "edge", "blurred"),
    )  # fmt: skip
    for name in ("score", "random_score", "blurred_score"):
        assert abs(scores[name][0].mean().item()) < 4 * error(scores[name][0])
    assert scores["edge_score"][0].mean() < -4 * error(scores["edge_score"][0])
