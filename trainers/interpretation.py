"""Interpretation regularisation: input gradients taught by a robust model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.attribution import explain
from metrics.randomness import Draws
from trainers._cost import Cost, Meter, standard_operations
from trainers._optimisation import augment
from trainers.base import Images, Objective, Setup, Step, from_objective
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe


@from_objective
def interpretation(
    model: nn.Module,
    setup: Setup,
    *,
    cosine_weight: Annotated[float, Ge(0)] = 3.0,
    norm_weight: Annotated[float, Ge(0)] = 0.15,
    threshold: Annotated[float, Ge(0)] = 1.0,
) -> Objective:
    """Cross-entropy, and input gradients that agree with the saliency of an adversarially trained teacher.

    The teacher is a copy of the untrained model, trained by `pgd_at` with the same recipe, threat and seed. Its
    SmoothGrad maps of the training images are made once (of 20 noisy copies; the authors take 50, cut them to [0, 1]
    and add the image itself) and augmented with their images. The input gradients see the model in eval mode, the
    authors' in train mode. Their teacher on MNIST is trained under L2, whatever the student is attacked with, and that
    of their CIFAR-10 script by standard training; here it is trained under the run's threat.

    Threat: needed
    Formula: L = CE(f(x), y) + cosine_weight mean_b [1 - cos(G(x), T(x))] + norm_weight |G|, G = grad_x z_y, |G| its
        norm over the whole batch, T = the teacher's SmoothGrad of z_y without the entries within threshold standard
        deviations of their mean
    Args:
        cosine_weight: Weight of the disagreement with the teacher (3 is the authors' on MNIST, 0.75 on CIFAR-10).
        norm_weight: Weight of the gradients' norm, which grows with the root of the batch size (0.15 is the authors' on
            MNIST with batches of 50, so 0.106 with 100; 0.005 on CIFAR-10 with 128).
        threshold: How many standard deviations from its mean a teacher's entry must be to count; 0 takes all.
    Cost: 2 forward, 2 backward and 1 double-backward passes per step; before the first, the teacher's training (pgd_at:
        11 forward and backward passes per step) and 20 of its passes over the images; as much memory as these
    Pitfalls: the measured cost of a step has its share of the teacher's; under budget = "cost" the teacher gets half of
        it. A training that continues from a snapshot trains the teacher again.
    Paper: Noack et al. 2021, "An empirical study on the relation between network interpretability and adversarial
        robustness"
    """
    train, recipe, seed = setup.train, setup.recipe, setup.seed
    if recipe.precision != "float32":
        raise attacks.needs_float32()
    teacher = copy.deepcopy(model)
    taught = pgd_at(
        teacher, train, setup.validation,
        recipe=_half(recipe), threat=setup.threat, seed=seed, selection=setup.selection,
    )  # fmt: skip
    draws = Draws(seed, train.ids).fork("teacher")

    def saliency(images: Images, draws: Draws) -> Tensor:
        return explain(
            teacher, images.x, draws, attribution="smoothgrad", of="logit", target=images.y
        )

    targets = saliency(train, draws)
    batch = Images(*(part[: recipe.batch_size] for part in train))
    with Meter(teacher, len(batch.y), standard_operations(teacher, batch.x, batch.y)) as meter:
        saliency(batch, draws[: recipe.batch_size])
    order = train.ids.argsort()

    def loss(x: Tensor, y: Tensor, step: Step) -> Tensor:
        rows = order[torch.searchsorted(train.ids[order], step.draws.ids)]
        target = _salient(augment(recipe.augment, targets[rows], step.draws), threshold)
        with attacks.frozen(model):
            gradient = attacks.input_gradient(
                lambda x: model(x).gather(1, y[:, None]).squeeze(1), x, create_graph=True
            )
        cosine = F.cosine_similarity(gradient.flatten(1), target.flatten(1)).mean()
        return (
            F.cross_entropy(model(x), y)
            + cosine_weight * (1 - cosine)
            + norm_weight * gradient.norm()
        )

    parts = zip(taught.cost, meter.cost, strict=True)
    return Objective(loss, before=Cost(*(len(taught.log) * a + b for a, b in parts)))


def _half(recipe: Recipe) -> Recipe:
    """The teacher's recipe: half of the cost is its own where the cost is what is equal."""
    return replace(recipe, epochs=max(1, recipe.epochs // 2)) if recipe.budget == "cost" else recipe


def _salient(maps: Tensor, threshold: float) -> Tensor:
    """The maps (n, C, H, W) with 0 for entries within `threshold` standard deviations of the mean of their image's."""
    mean, std = maps.mean((1, 2, 3), keepdim=True), maps.std((1, 2, 3), keepdim=True)
    return maps * ((maps - mean).abs() > threshold * std)
