"""FGSM with a random start ("fast" adversarial training)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def fgsm_rs(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    alpha: Annotated[float, Ge(0)] = 1.25,
    clip_start: bool = False,
    attack_bn: attacks.Statistics = "eval",
) -> Tensor:
    """Cross-entropy on adversarial images made in one gradient step from a random start.

    The start may leave [0, 1], as in the paper's algorithm and the authors' MNIST code; their CIFAR-10 code cuts it
    (the recipe wong2020 does). The paper is about Linf; for L2 the start is uniform in the ball, which in many
    dimensions means near its surface.

    Threat: needed
    Formula: L = CE(f(x + d), y), d = Proj(u + alpha eps sign grad CE(f(x + u))), u uniform in the ball; for L2 the
        gradient of length 1 instead of its sign; Proj onto the ball and [0, 1]
    Args:
        alpha: Length of the step in units of eps (0 trains on random noise).
        clip_start: Cut the start to [0, 1] before the gradient is taken there.
        attack_bn: The mode in which the attack sees BatchNorm; train is the authors'.
    Cost: 2 forward and 2 backward passes per step
    Pitfalls: catastrophic overfitting: at large eps or after many epochs PGD accuracy falls to 0 within an epoch while
        the training loss goes on falling. The checkpoint rule of the recipe (keep = "best") replaces the authors' early
        stop. Where many pixels are black or white, as on MNIST, clip_start takes away half of their noise.
    Paper: Wong et al. 2020, "Fast is better than free: revisiting adversarial training"
    """
    threat = step.threat
    start = threat.noise(x, step.draws)
    if clip_start:
        start = threat.project(x, start)
    with attacks.attacked(model, attack_bn):
        gradient = attacks.input_gradient(
            lambda images: attacks.cross_entropy(model(images), y), x + start
        )
    delta = threat.ascend(x, start, gradient, alpha * threat.eps)
    return F.cross_entropy(model(x + delta), y)
