"""N-FGSM: one gradient step from strong noise, without clipping."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def n_fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    noise: Annotated[float, Ge(0)] = 2.0,
    alpha: Annotated[float, Ge(0)] = 1.0,
) -> Tensor:
    """Cross-entropy on images moved one gradient step from strong noise, not clipped to the ball.

    The perturbation is as long as (noise + alpha) eps. Noisy and adversarial image are cut to [0, 1], as in the
    authors' code (the paper's algorithm leaves the cut out). The attack sees the model in eval mode, theirs in train
    mode. The paper is about Linf; for L2 the noise is uniform in the ball of radius noise * eps.

    Threat: needed
    Formula: L = CE(f(x'), y), x' = cut(x_n + alpha eps sign grad CE(f(x_n))), x_n = cut(x + u), u uniform in the ball
        of radius noise * eps; for L2 the gradient of length 1 instead of its sign
    Args:
        noise: Radius of the noise in units of eps, the paper's k.
        alpha: Length of the step in units of eps.
    Cost: 2 forward and 2 backward passes per step
    Pitfalls: the training images are up to (noise + alpha) eps away, so clean accuracy falls at large eps.
    Paper: de Jorge et al. 2022, "Make some noise: reliable and efficient single-step adversarial training"
    """
    threat = step.threat
    noisy = (x + threat.scaled(noise).noise(x, step.draws)).clamp(0, 1)
    with attacks.frozen(model):
        gradient = attacks.input_gradient(
            lambda images: attacks.cross_entropy(model(images), y), noisy
        )
    adversarial = (noisy + threat.step(gradient, alpha * threat.eps)).clamp(0, 1)
    return F.cross_entropy(model(adversarial), y)
