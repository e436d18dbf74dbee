"""Our side of `quantus_table.py`: the measures, the networks and images, and what is handed to `quantus_half.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.datasets.base import Split
from benchmark.datasets.load import load
from benchmark.datasets.planted import masks as planted_masks
from benchmark.models.base import build
from metrics import attacks
from metrics.attribution import explain
from metrics.case import Case, Scores, predict
from metrics.fidelity.deletion import deletion
from metrics.fidelity.infidelity import infidelity
from metrics.fidelity.pixel_flipping import pixel_flipping
from metrics.fidelity.road import road
from metrics.fidelity.sensitivity import sensitivity
from metrics.fill import filled
from metrics.importance import pixel_map, top
from metrics.localisation.localisation_auc import localisation_auc
from metrics.localisation.pointing_game import pointing_game
from metrics.localisation.relevance_mass import relevance_mass
from metrics.localisation.relevance_rank import relevance_rank
from metrics.randomness import Draws
from metrics.sanity._randomisation import cascade
from metrics.sanity.cascading_randomisation import cascading_randomisation
from metrics.sanity.emprt import emprt
from metrics.sanity.random_logit import random_logit
from metrics.sharpness.effective_complexity import effective_complexity
from metrics.sharpness.entropy import entropy
from metrics.sharpness.gini import gini
from metrics.stability.local_lipschitz import local_lipschitz
from metrics.threat import Linf
from trainers.base import Images
from trainers.recipe import Recipe
from trainers.standard import standard

SAMPLES, STAGES, RADIUS, SIGMA = 10, 100, 0.02, 0.2
PERCENTS = (25, 50, 75)
"""Of ROAD: on images of 8x8 and 16x16 whole numbers of pixels, which both sides round alike."""
Measure = Callable[[Case], Tensor]


def first(metric: Callable[..., Scores], **settings: Any) -> Measure:
    """The headline of a metric, (n, 1)."""
    return lambda c: next(iter(metric(c, of="logit", **settings).values()))[:, None]


def curve(metric: Callable[..., Scores], *names: str, **settings: Any) -> Measure:
    """The points of curves behind the first (nothing removed), (n, points)."""

    def measure(c: Case) -> Tensor:
        scores = metric(c, of="logit", **settings)
        columns = [scores[key] for name in names for key in scores if key.startswith(f"{name}@")]
        return torch.stack([c for c in columns if c is not scores.get(f"{names[0]}@0")], 1)

    return measure


def flipping_curves(steps: int) -> Measure:
    at = [f"{k / steps:g}" for k in range(1, steps + 1)]

    def measure(c: Case) -> Tensor:
        scores = pixel_flipping(c, of="logit", steps=steps)
        return torch.stack(
            [scores[f"{way}@{point}"] for way in ("morf", "lerf") for point in at], 1
        )

    return measure


def imputed(c: Case) -> Tensor:
    """The images without the more important half of their pixels, as ROAD shows them."""
    maps = explain(c.model, c.x, c.draws, of="logit")
    removed = top(pixel_map(maps), 0.5, c.draws)
    shown = filled(c.x, removed, "noisy_linear", mean=c.train_x.mean((0, 2, 3)), draws=c.draws)
    return shown.flatten(1)


def absolute_infidelity(c: Case) -> Tensor:
    scores = infidelity(c, of="logit", samples=SAMPLES, sigma=SIGMA, normalise=False)
    return scores["infidelity"][:, None]


def measures(steps: int) -> dict[str, Measure]:
    """Ours by name; pixels are removed in so many steps."""
    removed = curve(deletion, "probability", steps=steps)
    return {
        "gini": first(gini),
        "entropy": first(entropy),
        "effective_complexity": first(effective_complexity),
        "pointing_game": first(pointing_game),
        "relevance_mass": first(relevance_mass),
        "relevance_mass (attribution localisation)": first(relevance_mass),
        "relevance_rank": first(relevance_rank),
        "relevance_rank (top-k intersection)": first(relevance_rank),
        "localisation_auc": first(localisation_auc),
        "deletion": removed,
        "deletion (selectivity)": removed,
        "pixel_flipping": flipping_curves(steps),
        "road": curve(road, "morf_accuracy", percents=PERCENTS),
        "road (imputation)": imputed,
        "infidelity": absolute_infidelity,
        "sensitivity": first(sensitivity, samples=SAMPLES, radius=RADIUS),
        "local_lipschitz": first(local_lipschitz, samples=SAMPLES, radius=RADIUS),
        "random_logit": first(random_logit),
        "cascading_randomisation": first(cascading_randomisation, stages=STAGES),
        "emprt": first(emprt),
    }  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A network and images, and what it is made of."""

    name: str
    model: dict[str, Any]
    case: Case
    steps: int
    """In which all pixels are removed."""
    features: int
    """How many features Quantus's pixel flipping takes in a step: it must divide the number of pixels."""


def unused(*_: object) -> Any:
    raise AssertionError("none of these metrics retrains, or knows a manifold or another model")


def setting(name: str, train: Images, test: Images, mask: Tensor, features: int) -> Setting:
    """A network trained by our `standard` for a few seconds, and the test images that it gets right."""
    facts = {
        "architecture": "digits_cnn", "channels": train.x.shape[1], "size": train.x.shape[2],
        "classes": int(train.y.max()) + 1,
    }  # fmt: skip
    half = (0.5,) * facts["channels"]
    model: nn.Module = build(**facts, mean=half, std=half, seed=0)
    recipe = Recipe("digits_cnn", epochs=8, lr=5e-3, batch_size=64, keep="last")
    model = standard(model, train, test, recipe=recipe, threat=None, seed=0).model
    return Setting(name, facts, case(model, test, mask, train.x, facts["classes"]), 16, features)


def case(model: nn.Module, test: Images, mask: Tensor, train_x: Tensor, classes: int) -> Case:
    right = predict(model, test.x) == test.y
    draws = Draws(0, test.ids[right])
    return Case(
        model=model.eval().requires_grad_(False), x=test.x[right], y=test.y[right], draws=draws,
        train_x=train_x, train_draws=draws, threat=None, classes=classes, grade=unused,
        refit=unused, manifold=unused, surrogate=unused, mask=lambda: mask[right],
    )  # fmt: skip


def settings(images: int) -> list[Setting]:
    """Grey digits, and the planted images in colours of their own."""
    digits, planted = load("digits", Path()), load("planted", Path())
    assert digits.masks is not None
    some, others = digits.test[:images], planted.test[:images]
    return [
        setting("grey", of(digits.train), of(some), digits.masks(some), features=4),
        setting(
            "RGB", tinted(planted.train[:1500]), tinted(others), planted_masks(others), features=1
        ),
    ]


def of(split: Split) -> Images:
    return Images(split.x, split.y, split.ids)


def tinted(split: Split) -> Images:
    """Each image in a colour of its own, (n, 3, H, W)."""
    colours = 0.4 + 0.6 * Draws(0, split.ids).fork("colour").uniform(3, 1, 1)
    return Images(split.x * colours, split.y, split.ids)


def large(images: int) -> Setting:
    """What time is measured on: an untrained ResNet-20 and noise, since time does not depend on either."""
    facts = {"architecture": "resnet20", "channels": 3, "size": 16, "classes": 10}
    model = build(**facts, mean=(0.5,) * 3, std=(0.5,) * 3, seed=0).eval().requires_grad_(False)
    ids = torch.arange(images)
    x = Draws(0, ids).uniform(3, 16, 16)
    mask = Draws(1, ids).uniform(16, 16) > 0.7
    given = case(model, Images(x, predict(model, x), ids), mask, x, 10)
    return Setting("ResNet-20", facts, given, steps=12, features=64)


def edge_mask(size: int) -> Tensor:
    """The left two columns, (1, size, size)."""
    return (torch.arange(size) < 2).expand(1, size, size)


def edge_cases(size: int) -> dict[str, tuple[Tensor, Case]]:
    """Maps (1, 1, size, size), and one image with a linear model whose gradient each is."""
    broken = torch.full((1, 1, size, size), 2.0)
    broken[0, 0, 1, 1] = torch.nan
    found = {}
    for kind, a in (
        ("constant", broken.nan_to_num(2)),
        ("zero", 0 * broken.nan_to_num(2)),
        ("not a number", broken),
    ):
        model = nn.Sequential(nn.Flatten(), nn.Linear(a.numel(), 3)).requires_grad_(False)
        model[1].weight.copy_(a.view(1, -1).expand(3, -1))
        one = torch.zeros(1, dtype=torch.long)
        x = torch.full((1, 1, size, size), 0.5)
        found[kind] = (
            a,
            replace(
                case(model, Images(x, one, one), edge_mask(size), x, 3),
                x=x,
                y=one,
                draws=Draws(0, one),
                mask=lambda: edge_mask(size),
            ),
        )
    return found


def write(folder: Path, given: Setting, names: list[str], *, timed: bool) -> None:
    """What Quantus's half needs: images, maps, masks, weights, and the random numbers of our metrics."""
    c, classes = given.case, given.case.classes
    predicted = predict(c.model, c.x)
    maps = explain(c.model, c.x, c.draws, of="logit")
    shape, copies = c.x.shape[1:], torch.arange(len(c.x)).repeat_interleave(SAMPLES)
    number = torch.arange(SAMPLES).repeat(len(c.x))
    own = Draws(c.draws.fork("copy").seed, c.draws.ids[copies] * SAMPLES + number)
    moves = [
        attacks.random_start(c.x, Linf(RADIUS), c.draws.fork("near", i)) for i in range(SAMPLES)
    ]
    shift = c.draws.fork("other class").uniform(1).squeeze(1) * (classes - 1)
    arrays = {
        "x": c.x, "y": c.y, "predicted": predicted, "maps": maps, "signed": maps.sum(1, keepdim=True),
        "importance": pixel_map(maps)[:, None], "mask": c.mask()[:, None],  # type: ignore[index]
        "mean": c.train_x.mean((0, 2, 3)), "road_noise": 0.01 * c.draws.fork("fill").normal(*shape),
        "removed": SIGMA * c.draws.fork("perturbation").normal(SAMPLES, *shape),
        "uniform": (RADIUS * (2 * own.fork("noise").uniform(*shape) - 1)).view(-1, SAMPLES, *shape),
        "moves": torch.stack(moves, 1), "other": (predicted + 1 + shift.long()) % classes,
    }  # fmt: skip
    arrays |= {kind: a for kind, (a, _) in edge_cases(shape[1]).items()} | {
        "edge_mask": edge_mask(shape[1])[:, None]
    }
    np.savez(folder / "arrays.npz", **{name: value.numpy() for name, value in arrays.items()})
    stages = [
        {key: value.clone() for key, value in model.state_dict().items()}
        for _, model in cascade(c.model, c.x, c.draws, STAGES)
    ]
    torch.save({"trained": c.model.state_dict(), "stages": stages}, folder / "weights.pt")
    facts = {
        "model": given.model, "steps": given.steps, "features": given.features, "percents": PERCENTS, "metrics": names,
        "timed": timed,
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
