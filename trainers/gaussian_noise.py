"""Gaussian noise augmentation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.base import Step, from_loss


@from_loss
def gaussian_noise(
    model: nn.Module, x: Tensor, y: Tensor, step: Step, *, sigma: Annotated[float, Ge(0)] = 0.25
) -> Tensor:
    """Cross-entropy on images with Gaussian noise, the training for randomised smoothing.

    The noisy image is not cut to [0, 1], as in the authors' code: the certificate is about untruncated noise.

    Label: gaussian noise {sigma}
    Formula: L = CE(f(x + sigma n), y), n standard normal, new in each step
    Args:
        sigma: Standard deviation of the noise in pixel units (Cohen: 0.12, 0.25, 0.5 and 1).
    Cost: 1 forward and 1 backward pass per step
    Pitfalls: the network alone claims no robustness; what the paper certifies is its vote under noise, which metric
        `certified_accuracy` measures: give it this sigma.
    Paper: Cohen et al. 2019, "Certified adversarial robustness via randomized smoothing"
    """
    noise = step.draws.normal(*x.shape[1:])
    return F.cross_entropy(model(x + sigma * noise), y)
