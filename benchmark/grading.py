"""The harness's own verdict on adversarial examples: no attack grades its own work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metrics.case import Scores, in_batches
from metrics.threat import ThreatModel


@torch.no_grad()
def grade(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, adversarial: Tensor
) -> Scores:
    """Which images hold against these adversarial examples.

    An example counts only if it is inside the ball (to float32 rounding) and inside [0, 1]; it is predicted again
    here, in other batches than the attack's. An image that is misclassified unchanged does not hold, whatever the
    attack did.
    """
    if adversarial.shape != x.shape:
        raise ValueError(
            f"adversarial images have shape {tuple(adversarial.shape)}, not {tuple(x.shape)}"
        )
    size = threat.size(adversarial - x)
    in_ball = size <= threat.eps * (1 + 1e-5) + 1e-6
    in_range = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)  # false for NaN as well
    valid = in_ball & in_range
    held = _correct(model, adversarial, y) | ~valid
    return {
        "robust_accuracy": (_correct(model, x, y) & held).float(),
        "perturbation": size,
        "invalid": (~valid).float(),
    }


def _correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return in_batches(lambda batch: model(batch).argmax(1), x, size=199) == y
