"""What every metric must do at the edges: a right answer or a clear error. The tests find the metrics by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmark.cards import cards
from benchmark.grading import grade
from benchmark.measuring.measure import checked
from benchmark.plan import Cell, Part
from metrics.case import Case, NotApplicable, predict
from metrics.manifold._generators import VaeManifold
from metrics.manifold._vae import VAE
from metrics.randomness import Draws
from metrics.threat import Linf

SIZE = 8
METRICS = cards("metrics")
OF_MAPS = [
    name for name, card in METRICS.items() if any(p.name == "attribution" for p in card.parameters)
]
CHEAP = {
    "attribution_attack": {"steps": 3}, "auto_attack": {"queries": 20}, "square": {"queries": 20},
    "masking": {"queries": 20}, "pgd": {"steps": 3}, "apgd": {"steps": 3}, "fab": {"steps": 3},
    "minimal_norm": {"steps": 3}, "transfer": {"steps": 3}, "saliency_consensus": {"steps": 3},
    "roar": {"retrains": 1}, "kar": {"retrains": 1}, "diff_roar": {"retrains": 1},
}  # fmt: skip
every_metric = pytest.mark.parametrize("name", METRICS)
every_metric_of_maps = pytest.mark.parametrize("name", OF_MAPS)


def network(channels: int, classes: int) -> nn.Sequential:
    """Convolution, ReLU, pooling, linear."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, classes),
    )  # fmt: skip


class Changed(nn.Module):
    """Logits as they are; their gradient by the image as `change` makes it."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            x = x.clone()
            x.register_hook(self.change)
        return self.model(x)


def case(model: nn.Module, n: int = 5, channels: int = 1, classes: int = 3) -> Case:
    """The model on some images, which it gets right."""
    ids = torch.arange(n)
    x, train_x = (
        Draws(1, ids).uniform(channels, SIZE, SIZE),
        Draws(2, ids).uniform(channels, SIZE, SIZE),
    )
    model = model.eval().requires_grad_(False)
    y, vae, threat = predict(model, x), VAE(channels, SIZE, SIZE, 4).eval(), Linf(0.1)
    return Case(
        model=model, x=x, y=y, draws=Draws(0, ids), train_x=train_x, train_draws=Draws(0, ids + n),
        threat=threat, classes=classes, grade=lambda images: grade(model, x, y, threat, images),
        # a stand-in for retraining: the classifier itself on the changed test images
        refit=lambda jobs: torch.stack([predict(model, job.test_images) == y for job in jobs]).float(),
        manifold=lambda *_, **__: VaeManifold.at(vae.requires_grad_(False), x), surrogate=lambda _: model,
        mask=lambda: (torch.arange(SIZE) < 3).expand(n, SIZE, SIZE),
        train_y=(y + 1 + ids % (classes - 1)) % classes,
    )  # fmt: skip


def measured(name: str, given: Case) -> dict[str, Tensor]:
    """The scores, which are what the card says: names, shapes, and ranges; never infinite."""
    card = METRICS[name]
    scores = card.load()(given, **CHEAP.get(name, {}))
    return checked(Cell(None, Part("metrics", name, ()), None), scores, len(given.y))


def headline(name: str, given: Case) -> Tensor:
    return measured(name, given)[METRICS[name].measures[0].name]


def result(name: str, given: Case) -> Tensor | str:
    """The headline, or the reason why there is none."""
    try:
        return headline(name, given)
    except NotApplicable as error:
        return str(error)


@every_metric
@pytest.mark.parametrize(("channels", "classes", "n"), [(3, 3, 5), (3, 2, 4), (1, 10, 1)])
def test_grey_and_rgb_two_classes_and_one_image(
    name: str, channels: int, classes: int, n: int
) -> None:
    given = case(network(channels, classes), n=n, channels=channels, classes=classes)
    found = result(name, given)
    if name == "grid_pointing_game":  # a random network sees nothing in a mosaic, but by luck
        assert not isinstance(found, str) or "of the mosaics" in found
    elif name == "certified_accuracy":
        assert found == "Gaussian noise certifies under L2, as in 'L2 0.5'; this is Linf 0.1"
    elif isinstance(found, str):
        assert classes == 2
        assert "classes" in found
    else:  # the walk need not fool the referee on any of a few images
        assert found.isfinite().any() or name == "reconstruction_distance"


@every_metric_of_maps
@pytest.mark.parametrize("change", [torch.ones_like, torch.zeros_like], ids=["constant", "zero"])
def test_a_map_without_an_order(name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Neither infinite nor out of range; the pixels are taken as equal, or there is no score."""
    found = result(name, case(Changed(network(1, 3), change)))
    if isinstance(found, str):
        assert name == "grid_pointing_game"
    elif name in EQUAL:
        expected = torch.full_like(found, EQUAL[name])
        torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-6, rtol=1e-5)


EQUAL = {
    "gini": 0.0, "entropy": 1.0, "total_variation": 0.0, "effective_complexity": 58 / 64, "morans_i": torch.nan,
    "edge_agreement": torch.nan, "pointing_game": 3 / 8, "relevance_mass": 3 / 8, "relevance_rank": 3 / 8,
    "localisation_auc": 0.5, "pixel_flipping": 0.0, "road": 0.0, "cascading_randomisation": torch.nan,
    "emprt": torch.nan, "random_logit": torch.nan,
}  # fmt: skip
"""What a map of equal pixels scores."""


@every_metric_of_maps
def test_a_map_that_is_not_a_number(name: str) -> None:
    """No score, or a clear error: never a number."""
    broken = Changed(network(1, 3), lambda gradient: torch.nan * gradient)
    found = result(name, case(broken))
    if isinstance(found, str):
        assert "not numbers" in found or "of the mosaics" in found
    else:
        assert found.isnan().all()
