"""GradAlign: FGSM training with aligned input gradients."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def grad_align(
    model: nn.Module, x: Tensor, y: Tensor, step: Step, *, weight: Annotated[float, Ge(0)] = 0.2
) -> Tensor:
    """Cross-entropy on FGSM images, plus the disagreement of the input gradients at the image and at random noise.

    Two gradients that point the same way mean a loss that is nearly linear in the ball, where one step is as good as
    many. As in the authors' code the gradient at the image is a constant (and makes the FGSM step), x + u is not cut to
    [0, 1], and images at which a gradient vanishes are left out of the mean. The gradients are taken in eval mode,
    theirs in train mode. Only their direction is used, so they are taken of the log-odds log (1 - p_y) / p_y, which
    have that of the cross-entropy and do not vanish in float32 where the model is sure.

    Threat: needed
    Formula: L = CE(f(x'), y) + weight mean_b [1 - cos(G(x), G(x + u))], G = grad_x CE(f(x), y), x' = cut(x + eps sign
        G(x)), u uniform in the ball; for L2 the gradient of length 1 instead of its sign
    Args:
        weight: Weight of the disagreement, the paper's lambda. 0.2 is theirs at Linf 8/255 on CIFAR-10, where they
            raise it with eps, tenfold every 8/255: 0.02 * 10^(255 eps / 8), or 2.0 at 16/255. Not to be extrapolated to
            MNIST's 0.3.
    Cost: 3 forward, 3 backward and 1 double-backward passes per step
    Pitfalls: too small a weight lets the catastrophic overfitting of FGSM training return, too large a one costs clean
        accuracy: choose it for each eps and data set.
    Paper: Andriushchenko & Flammarion 2020, "Understanding and improving fast adversarial training"
    """
    threat = step.threat

    def gradient(images: Tensor, create_graph: bool = False) -> Tensor:
        return attacks.input_gradient(
            lambda x: attacks.log_odds_against(model(x), y), images, create_graph=create_graph
        )

    with attacks.frozen(model):
        own = gradient(x)
        near = gradient(x + threat.noise(x, step.draws), create_graph=weight > 0)
    adversarial = x + threat.ascend(x, torch.zeros_like(x), own, threat.eps)
    return F.cross_entropy(model(adversarial), y) + weight * _disagreement(own, near)


def _disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Mean of 1 - cos over the images at which both gradients have a direction (0 if there are none)."""
    one, other = one.flatten(1), other.flatten(1)
    has = (one.norm(dim=1) > 0) & (other.norm(dim=1) > 0)
    cosine = F.cosine_similarity(one[has], other[has])
    return (1 - cosine).sum() / has.sum().clamp_min(1)
