"""PAG: input gradients that are taught to point towards images of the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.randomness import Draws
from trainers.base import Images, Objective, Setup, Step, from_objective


@from_objective
def pag(
    model: nn.Module,
    setup: Setup,
    *,
    weight: Annotated[float, Ge(0)] = 0.5,
    towards: Literal["class_mean", "one_image", "nearest"] = "class_mean",
    targets: Annotated[int, Ge(1)] = 10,
) -> Objective:
    """Cross-entropy, plus the angle between each class's input gradient and the way to an image of that class.

    "Perceptually aligned gradients": what raises the likelihood of class t should make the image look like t. The way
    is r_t - x with a representative r_t: the mean of the class's training images (the paper's CM), one of them for all
    (OI), or the nearest of them but for the image itself (NN). The paper's principled target, the score of a diffusion
    model (SBG), needs such a model and is not offered. Gradients are taken in eval mode, the authors' in train mode.
    Only their direction is used, so they are taken of the log-odds of t, which have that of log p_t and do not vanish
    in float32 where the model is sure.

    Formula: L = CE(f(x), y) + weight sum_t [1 - cos(grad_x log p_t(x), r_t - x)], the sum over all classes estimated
        from `targets` different ones, drawn anew for each image
    Args:
        weight: Weight of the angle. The authors' configuration, SBG on CIFAR-10 for 100 epochs, has 1.5; towards class
            means in short trainings that left too little of the cross-entropy (digits, 6 epochs: accuracy 34%).
        towards: What the gradients are to point at.
        targets: Classes per image and step; as many as there are, or more: all of them.
    Cost: 2 forward, 1 + targets backward and targets double-backward passes per step; "nearest" also compares each
        image with all training images
    Pitfalls: never publish PGD-only figures of saliency-trained models; run AutoAttack.
    Paper: Ganz, Kawar & Elad 2023, "Do perceptually aligned gradients imply robustness?"
    """
    classes = setup.train.y.unique()
    representatives = _REPRESENTATIVES[towards](setup.train, classes, setup.seed)

    def loss(x: Tensor, y: Tensor, step: Step) -> Tensor:
        chosen = step.draws.fork("targets").uniform(len(classes)).argsort(1)[:, :targets]

        def likelihoods(images: Tensor) -> Tensor:
            logits = model(images)
            return torch.stack([-attacks.log_odds_against(logits, t) for t in classes[chosen].T])

        with attacks.frozen(model):
            gradients = attacks.input_gradients(likelihoods, x, create_graph=True)
        ways = representatives(x, chosen, step.draws.ids).transpose(0, 1) - x
        cosines = F.cosine_similarity(gradients.flatten(2), ways.flatten(2), dim=2)
        return F.cross_entropy(model(x), y) + weight * len(classes) * (1 - cosines).mean()

    return Objective(loss)


Representatives = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (n, C, H, W), places of their target classes (n, m), identities (n,)) -> (n, m, C, H, W)."""


def _class_mean(train: Images, classes: Tensor, seed: int) -> Representatives:
    means = torch.stack([train.x[train.y == label].mean(0) for label in classes])
    return lambda x, chosen, ids: means[chosen]


def _one_image(train: Images, classes: Tensor, seed: int) -> Representatives:
    lot = Draws(seed, train.ids).fork("representative").uniform(1).squeeze(1)
    drawn = torch.stack([lot.masked_fill(train.y != label, 2).argmin() for label in classes])
    return lambda x, chosen, ids: train.x[drawn[chosen]]


def _nearest(train: Images, classes: Tensor, seed: int) -> Representatives:
    def representatives(x: Tensor, chosen: Tensor, ids: Tensor) -> Tensor:
        distance = torch.cdist(x.flatten(1), train.x.flatten(1))
        # an image is no neighbour of itself: the way would have no direction
        distance = distance.masked_fill(ids[:, None] == train.ids, torch.inf)
        labels = classes[chosen].T
        return torch.stack([other(x, distance, label) for label in labels], 1)

    def other(x: Tensor, distance: Tensor, label: Tensor) -> Tensor:
        nearest, number = distance.masked_fill(train.y != label[:, None], torch.inf).min(1)
        # the only image of its class stays itself: a way of no length has a cosine of 0, and no gradient
        return torch.where(nearest.isinf()[:, None, None, None], x, train.x[number])

    return representatives


_REPRESENTATIVES: dict[str, Callable[[Images, Tensor, int], Representatives]] = {
    "class_mean": _class_mean,
    "one_image": _one_image,
    "nearest": _nearest,
}
